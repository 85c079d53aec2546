/* Assembly in C, in the syntax of Intel. */
unsigned swap(unsigned v) { __asm__("bswap %0" : "+r"(v)); return v; }
int sum(const int *p, int n)
{
    int total = 0;
    __asm__ volatile("jecxz 2f\n1:\tadd %0, [%1]\n\tadd %1, 4\n\tloop 1b\n2:"
                     : "+r"(total), "+r"(p), "+c"(n) : : "cc", "memory");
    return total;
}
void fill(void *p, int value, unsigned n) { __asm__ volatile("rep stosd" : "+D"(p), "+c"(n) : "a"(value) : "memory"); }
unsigned flags(void) { unsigned f; __asm__("pushfd\n\tpop %0" : "=r"(f)); return f; }
