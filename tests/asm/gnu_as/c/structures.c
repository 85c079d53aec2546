/* Structures, unions, bit fields, nested and packed. */
struct fields { unsigned low : 3, middle : 7, high : 22; };
struct point { short x, y; unsigned char colour; };
struct box { struct point corners[2]; union { int number; float real; char bytes[4]; } value; };
struct __attribute__((packed)) record { char kind; int size; short rest; };
static struct box boxes[3] = {{{{1, 2, 3}, {4, 5, 6}}, {7}}};

unsigned unpack(struct fields f) { return f.low + f.middle * 8 - f.high; }
struct fields pack(unsigned a, unsigned b) { return (struct fields){a & 7, b & 127, a ^ b}; }
int area(int n) { struct box *b = &boxes[n]; return (b->corners[1].x - b->corners[0].x) * (b->corners[1].y - b->corners[0].y); }
void paint(int n, unsigned char colour) { boxes[n].corners[0].colour = boxes[n].corners[1].colour = colour; }
int record_size(const struct record *r) { return r->kind ? r->size : r->rest; }
float real(int n) { return boxes[n].value.real; }
