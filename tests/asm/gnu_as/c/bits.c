/* Counting, scanning and reversing bits. */
#include <stdint.h>

unsigned count(unsigned v)
{
    unsigned n = 0;
    for (; v; v &= v - 1)
        n++;
    return n;
}
int lowest(unsigned v) { return v ? __builtin_ctz(v) : -1; }
int highest(unsigned v) { return v ? 31 - __builtin_clz(v) : -1; }
uint32_t reverse(uint32_t v) { return __builtin_bswap32(v); }
uint16_t reverse16(uint16_t v) { return __builtin_bswap16(v); }
int parity(unsigned v) { return __builtin_parity(v); }
int test(unsigned v, int n) { return v >> n & 1; }
