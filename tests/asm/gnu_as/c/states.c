/* Switches: dense (a table of jumps), sparse (comparisons), with text. */
static const char *const names[] = {"zero", "one", "two", "three", "four", "five"};

const char *name(unsigned n) { return n < 6 ? names[n] : "many"; }
int dense(int n)
{
    switch (n) {
    case 0: return 17;
    case 1: return 5;
    case 2: return -8;
    case 3: return 100;
    case 4: return n * 3;
    case 5: return 12345;
    case 7: return 1;
    default: return 0;
    }
}
int sparse(int n)
{
    switch (n) {
    case 10: return 1;
    case 1000: return 2;
    case 100000: return 3;
    case -7: return 4;
    default: return n;
    }
}
int number(const char *p)
{
    int sign = 1, value = 0;
    while (*p == ' ' || *p == '\t')
        p++;
    if (*p == '-')
        sign = -1, p++;
    for (; *p >= '0' && *p <= '9'; p++)
        value = value * 10 + (*p - '0');
    return sign * value;
}
