/* Insertion sort, quicksort with a comparison function, binary search. */
typedef int compare(const void *, const void *);

void insertion(int *p, int n)
{
    for (int i = 1; i < n; i++) {
        int v = p[i], j = i;
        for (; j > 0 && p[j - 1] > v; j--)
            p[j] = p[j - 1];
        p[j] = v;
    }
}
void quick(int *p, int low, int high, compare *f)
{
    while (low < high) {
        int pivot = p[(low + high) / 2], i = low, j = high;
        while (i <= j) {
            while (f(&p[i], &pivot) < 0)
                i++;
            while (f(&p[j], &pivot) > 0)
                j--;
            if (i <= j) {
                int t = p[i];
                p[i++] = p[j];
                p[j--] = t;
            }
        }
        quick(p, low, j, f);
        low = i;
    }
}
int search(const int *p, int n, int key)
{
    int low = 0, high = n - 1;
    while (low <= high) {
        int middle = low + (high - low) / 2;
        if (p[middle] == key)
            return middle;
        if (p[middle] < key)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}
