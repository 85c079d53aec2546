/* Strings of C. */
unsigned length(const char *p) { const char *q = p; while (*q) q++; return (unsigned)(q - p); }
char *append(char *to, const char *from)
{
    char *p = to + length(to);
    while ((*p++ = *from++))
        ;
    return to;
}
int compare(const char *a, const char *b) { while (*a && *a == *b) a++, b++; return (signed char)*a - (signed char)*b; }
void upper(char *p) { for (; *p; p++) if (*p >= 'a' && *p <= 'z') *p -= 'a' - 'A'; }
char *decimal(unsigned n, char *end)
{
    *--end = 0;
    do
        *--end = (char)('0' + n % 10);
    while (n /= 10);
    return end;
}
const char *greeting(int n) { return n ? "good morning" : "good evening, ni\303\261o"; }
