/* Variables of every linkage and section, aliases, alignment. */
int initialized = 42;
int zeroed;
static int hidden = 7;
static int hidden_zero;
const int constant = 99;
static const char text[] = "caf\303\251\t\"quoted\"\\ \001end";
int aligned __attribute__((aligned(32))) = 3;
int *pointer = &initialized;
int *const inside = &zeroed;
extern int other_name __attribute__((alias("initialized")));
__attribute__((section(".mine"))) int placed = 5;
short pair[2] = {1, -1};

int sum(void) { return initialized + zeroed + hidden + hidden_zero + constant + text[3] + aligned + *pointer + *inside; }
void change(int n) { hidden = n; hidden_zero += n; placed = other_name; pair[1] = (short)n; }
