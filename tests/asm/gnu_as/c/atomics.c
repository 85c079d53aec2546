/* LOCK prefixes and CMPXCHG. */
static int counter;
static char flag;

int add(int n) { return __atomic_fetch_add(&counter, n, __ATOMIC_SEQ_CST); }
int swap(int n) { return __atomic_exchange_n(&counter, n, __ATOMIC_ACQ_REL); }
void set(void) { __atomic_store_n(&flag, 1, __ATOMIC_SEQ_CST); }
int maximum(int *place, int value)
{
    int seen = __atomic_load_n(place, __ATOMIC_RELAXED);
    while (seen < value && !__atomic_compare_exchange_n(place, &seen, value, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
    return seen;
}
unsigned clear_bits(unsigned *place) { return __atomic_fetch_and(place, 0xff00u, __ATOMIC_SEQ_CST); }
