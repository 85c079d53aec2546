/* Calls: direct, through pointers, through tables, recursive, with structures. */
struct pair { int first, second; };
typedef int operation(int, int);

static int add(int a, int b) { return a + b; }
static int subtract(int a, int b) { return a - b; }
static operation *table[] = {add, subtract};
operation *current = subtract;

int indirect(int n, int a, int b) { return table[n](a, b) + current(b, a); }
struct pair swapped(struct pair p) { return (struct pair){p.second, p.first}; }
int use(int a, int b) { struct pair p = swapped((struct pair){a, b}); return p.first - p.second; }
unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
int apply(operation *f, int n) { return n ? apply(f, f(n, 1)) : 0; }
