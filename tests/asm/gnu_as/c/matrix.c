/* Nested loops over two dimensions, with single and double precision. */
#define N 5
float a[N][N], b[N][N], c[N][N];
double trace;

void multiply(void)
{
    trace = 0;
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            float s = 0;
            for (int k = 0; k < N; k++)
                s += a[i][k] * b[k][j];
            c[i][j] = s;
        }
        trace += c[i][i];
    }
}
void transpose(int m[N][N])
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < i; j++) {
            int t = m[i][j];
            m[i][j] = m[j][i];
            m[j][i] = t;
        }
}
