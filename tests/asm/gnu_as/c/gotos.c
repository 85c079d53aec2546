/* Computed gotos: a table of labels. */
int run(const unsigned char *code)
{
    static const void *const steps[] = {&&stop, &&add, &&subtract, &&twice};
    int value = 0;
    goto *steps[*code++ & 3];
add:
    value += *code++;
    goto *steps[*code++ & 3];
subtract:
    value -= *code++;
    goto *steps[*code++ & 3];
twice:
    value *= 2;
    goto *steps[*code++ & 3];
stop:
    return value;
}
