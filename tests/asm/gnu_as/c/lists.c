/* Linked lists and a heap. */
struct node { struct node *next; int key; };
static struct node pool[16];

struct node *make(int n)
{
    struct node *list = 0;
    for (int i = 0; i < n && i < 16; i++) {
        pool[i].next = list;
        pool[i].key = i * 7 % 16;
        list = &pool[i];
    }
    return list;
}
struct node *reverse(struct node *list)
{
    struct node *result = 0;
    while (list) {
        struct node *next = list->next;
        list->next = result;
        result = list;
        list = next;
    }
    return result;
}
void sift(int *heap, int at, int n)
{
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child] < heap[child + 1])
            child++;
        if (heap[at] >= heap[child])
            return;
        int t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
    }
}
