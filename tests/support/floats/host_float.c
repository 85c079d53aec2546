/* Executes instructions of SSE and x87 on the host's own CPU: what tests compare the emulated one with.
 *
 * Standard input is a row of `struct request`, standard output a row of `struct answer`.  The host runs 64-bit code;
 * instructions that address memory by ECX only are the same there.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct state {
    uint8_t area[512]; /* as FXSAVE writes it */
    uint32_t eax, edx;
    uint64_t ecx;
    uint64_t eflags;
} __attribute__((aligned(64)));

struct request {
    uint8_t size, code[15];
    int32_t offset; /* what ECX points to: bytes into `memory`, less than 0 for a page that is not mapped */
    uint32_t eax, edx, eflags;
    uint8_t memory[512];
    uint8_t area[512];
};

struct answer {
    uint32_t signal, reason; /* 0: none */
    uint32_t eax, edx, ecx, eflags;
    uint8_t memory[512];
    uint8_t area[512];
};

static sigjmp_buf back;
static struct answer answer;
static struct state state;
static uint8_t memory[8192] __attribute__((aligned(4096)));

static void handler(int number, siginfo_t *info, void *context)
{
    ucontext_t *found = context;
    answer.signal = number;
    answer.reason = info->si_code;
    memcpy(state.area, found->uc_mcontext.fpregs, sizeof state.area);
    siglongjmp(back, 1);
}

/* With the address of a `struct state` in RDI: load it, execute, store it. */
static const uint8_t before[] = {
    0x49, 0x89, 0xf8,                         /* mov r8, rdi */
    0x41, 0xff, 0xb0, 0x10, 0x02, 0x00, 0x00, /* push qword ptr [r8+528] */
    0x9d,                                     /* popfq */
    0x41, 0x8b, 0x80, 0x00, 0x02, 0x00, 0x00, /* mov eax, [r8+512] */
    0x41, 0x8b, 0x90, 0x04, 0x02, 0x00, 0x00, /* mov edx, [r8+516] */
    0x49, 0x8b, 0x88, 0x08, 0x02, 0x00, 0x00, /* mov rcx, [r8+520] */
    0x41, 0x0f, 0xae, 0x08,                   /* fxrstor [r8] */
};
static const uint8_t after[] = {
    0x41, 0x0f, 0xae, 0x00,                   /* fxsave [r8] */
    0x41, 0x89, 0x80, 0x00, 0x02, 0x00, 0x00, /* mov [r8+512], eax */
    0x41, 0x89, 0x90, 0x04, 0x02, 0x00, 0x00, /* mov [r8+516], edx */
    0x49, 0x89, 0x88, 0x08, 0x02, 0x00, 0x00, /* mov [r8+520], rcx */
    0x9c, 0x58,                               /* pushfq; pop rax */
    0x49, 0x89, 0x80, 0x10, 0x02, 0x00, 0x00, /* mov [r8+528], rax */
    0xfc, 0xdb, 0xe3, 0xc3,                   /* cld; fninit; ret */
};

int main(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
    static uint8_t stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct request request;

    sigaltstack(&other, NULL);
    for (unsigned index = 0; index < sizeof signals / sizeof *signals; index++)
        sigaction(signals[index], &action, NULL);
    while (fread(&request, sizeof request, 1, stdin) == 1) {
        uint8_t *end = code;
        end = mempcpy(end, before, sizeof before);
        end = mempcpy(end, request.code, request.size);
        memcpy(end, after, sizeof after);
        memset(&answer, 0, sizeof answer);
        memset(memory, 0, sizeof memory);
        memcpy(memory, request.memory, sizeof request.memory);
        memcpy(state.area, request.area, sizeof state.area);
        state.eax = request.eax;
        state.edx = request.edx;
        uint64_t base = (uint64_t)(request.offset < 0 ? nothing + 1024 : memory);
        state.ecx = base + request.offset;
        state.eflags = request.eflags;
        if (!sigsetjmp(back, 1))
            ((void (*)(struct state *))code)(&state);
        uint32_t usual = 0x1f80;
        __asm__ volatile("fninit; cld; ldmxcsr %0" : : "m"(usual) : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",
                         "xmm6", "xmm7", "memory");
        answer.eax = state.eax;
        answer.edx = state.edx;
        answer.ecx = (uint32_t)state.ecx;
        answer.eflags = (uint32_t)state.eflags;
        memcpy(answer.memory, memory, sizeof answer.memory);
        memcpy(answer.area, state.area, sizeof answer.area);
        fwrite(&answer, sizeof answer, 1, stdout);
    }
    return 0;
}
