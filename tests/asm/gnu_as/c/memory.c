/* Copying and filling, byte by byte and with what the compiler makes of it. */
struct block { int words[12]; char tail[3]; };
static struct block saved;

void save(const struct block *b) { saved = *b; }
void clear(struct block *b) { *b = (struct block){{0}, {0}}; }
void copy(char *to, const char *from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = from[i];
}
int differ(const unsigned char *a, const unsigned char *b, unsigned n)
{
    for (; n; n--, a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}
void pattern(unsigned *p) { for (int i = 0; i < 40; i++) p[i] = 0x5a5a5a5a; }
