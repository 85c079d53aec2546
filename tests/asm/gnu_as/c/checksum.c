/* CRC-32 with a table that is made at run time, and Adler-32. */
#include <stdint.h>

static uint32_t table[256];

void prepare(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        table[n] = c;
    }
}
uint32_t crc32(const unsigned char *p, unsigned n)
{
    uint32_t c = ~0u;
    while (n--)
        c = table[(c ^ *p++) & 0xff] ^ c >> 8;
    return ~c;
}
uint32_t adler32(const unsigned char *p, unsigned n)
{
    uint32_t a = 1, b = 0;
    for (; n; n--, p++)
        a = (a + *p) % 65521, b = (b + a) % 65521;
    return b << 16 | a;
}
