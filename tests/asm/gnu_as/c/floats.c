/* The x87: comparisons, conversions, constants, long double. */
static const double factors[] = {1.5, -2.25, 1e100, 0.1};

double mean(const double *p, int n)
{
    double total = 0;
    for (int i = 0; i < n; i++)
        total += p[i] * factors[i & 3];
    return n ? total / n : 0.5;
}
float scale(float x, int n) { return x * n - 0.75f; }
long double square(long double x) { return x * x + 1; }
int compare(double a, double b) { return a < b ? -1 : a > b; }
int round_down(double x) { return (int)x; }
long long whole(float x) { return (long long)x; }
double absolute(double x) { return x < 0 ? -x : x; }
float root(float x) { return __builtin_fabsf(x) / 3; }
