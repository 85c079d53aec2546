/* Variable arguments and arrays of variable size. */
#include <stdarg.h>

int sum(int n, ...)
{
    va_list list;
    int total = 0;
    va_start(list, n);
    while (n-- > 0)
        total += va_arg(list, int);
    va_end(list);
    return total;
}
double widest(int n, ...)
{
    va_list list;
    double best = 0;
    va_start(list, n);
    for (; n > 0; n--) {
        double d = va_arg(list, double);
        best = d > best ? d : best;
    }
    va_end(list);
    return best;
}
int reversed(const int *p, int n)
{
    int copy[n];
    for (int i = 0; i < n; i++)
        copy[i] = p[n - 1 - i];
    return copy[0] + sum(3, copy[n / 2], n, 5);
}
