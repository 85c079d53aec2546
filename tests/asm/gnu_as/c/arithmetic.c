/* Integers of every width, signed and not, with division, remainders and shifts. */
#include <stdint.h>

int8_t narrow(int8_t a, uint8_t b) { return (int8_t)(a * 3 - b / 7); }
uint16_t middle(uint16_t a, int16_t b) { return (uint16_t)((a << 3) | (b >> 2)); }
int32_t divide(int32_t a, int32_t b) { return b ? a / b + a % b : a / 10; }
uint32_t rotate(uint32_t a, unsigned n) { return a << (n & 31) | a >> (32 - (n & 31)); }
int64_t multiply(int64_t a, int64_t b) { return a * b + (a >> 5) - (b << 3); }
uint64_t shift(uint64_t a, unsigned n) { return a >> n ^ a << 7; }
uint32_t high(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
unsigned by_constant(unsigned a) { return a / 1000 + a % 1000 * 12; }
