/* Vectors of 16 bytes. */
typedef int ints __attribute__((vector_size(16)));
typedef float floats __attribute__((vector_size(16)));
typedef short shorts __attribute__((vector_size(16)));

#pragma GCC target("sse4.2")
ints sum(ints a, ints b) { return a * b + (a & ~b); }
floats blend(floats a, floats b) { return a / b + (floats)(a > b); }
shorts shift(shorts a) { return (shorts)(a << 3) + (shorts){1, 2, 3, 4, 5, 6, 7, 8}; }
double convert(int a, float b) { return a * (double)b; }
int truncate(double a) { return (int)a; }
unsigned crc(unsigned c, unsigned char b) { return __builtin_ia32_crc32qi(c, b); }
