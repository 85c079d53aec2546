/* Indexed memory with every factor. */
static unsigned char bytes[64];
static short words[64];
int longs[64] = {1, 2, 3};
long long quads[64];

long long sum(int n)
{
    long long total = 0;
    for (int i = 0; i < n; i++)
        total += bytes[i] + words[i] * longs[n - i] - quads[i];
    return total;
}

void scatter(int n, int value)
{
    bytes[n] = (unsigned char)value;
    words[n + 1] = (short)value;
    longs[n - 1] = value;
    quads[2 * n] = value;
}
