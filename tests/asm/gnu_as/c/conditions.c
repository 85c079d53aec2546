/* Comparisons of every kind, as values and as branches. */
int less(int a, int b) { return a < b; }
int below(unsigned a, unsigned b) { return a <= b; }
int between(int a, int low, int high) { return a >= low && a < high; }
int sign(int a) { return a > 0 ? 1 : a < 0 ? -1 : 0; }
int limit(int a, int low, int high) { return a < low ? low : a > high ? high : a; }
unsigned char is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
int long_compare(long long a, long long b) { return a < b ? -1 : a != b; }
int nested(int a, int b, int c)
{
    if (a)
        return b ? c : -c;
    do
        b += c--;
    while (c > 0 && b < 1000);
    return b;
}
