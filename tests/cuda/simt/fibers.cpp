// Runs kernels on a CPU: one fiber per thread of a block, so that barriers and warp operations really
// wait for the others, and the compiler's sanitizers watch every access.
//
// Threads of a block run sequentially, each until it must wait. If a barrier is missing, a thread reads
// data that is not written yet. Blocks run sequentially, or two at a time: then their threads take
// turns, and before some atomic operations others go on.
#include "fibers.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sanitizer/common_interface_defs.h>
#include <ucontext.h>
#include <vector>

namespace simt {
namespace {

const u32 STACK = 1 << 16, MOST_THREADS = 1024, MOST_BLOCKS = 2;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    void *fake_stack = nullptr;
    u32 number = 0;
    bool done = false, at_barrier = false, at_warp = false;
};

struct Rendezvous {
    u32 arrived = 0;
    u64 values[WARP] = {}, all[WARP] = {};
};

struct Block {
    dim3 index;
    std::vector<Fiber> fibers;  // one for each thread
    std::map<u32, Rendezvous> warps[MOST_THREADS / WARP];
    std::vector<u64> shared;  // of the size that the launch says
};

struct Machine {
    Block blocks[MOST_BLOCKS];
    Block *block = nullptr;  // the current one
    ucontext_t scheduler;
    void *scheduler_fake = nullptr;
    const void *scheduler_stack = nullptr;
    size_t scheduler_size = 0;
    Fiber *current = nullptr;
    void (*body)(void **) = nullptr;
    void **arguments = nullptr;
    dim3 grid;
    u64 first = 0, end = ~0ull;  // of the blocks that run
    u32 chance = 1;
} machine;

// Returns to the scheduler, until it resumes this fiber.
void leave(bool finished) {
    Machine &m = machine;
    Fiber *self = m.current;
    __sanitizer_start_switch_fiber(finished ? nullptr : &self->fake_stack, m.scheduler_stack,
                                   m.scheduler_size);
    swapcontext(&self->context, &m.scheduler);
    __sanitizer_finish_switch_fiber(self->fake_stack, nullptr, nullptr);
}

void entry() {
    Machine &m = machine;
    __sanitizer_finish_switch_fiber(nullptr, &m.scheduler_stack, &m.scheduler_size);
    m.body(m.arguments);
    m.current->done = true;
    leave(true);
}

void resume(Fiber &fiber) {
    Machine &m = machine;
    m.current = &fiber;
    __sanitizer_start_switch_fiber(&m.scheduler_fake, fiber.stack.get(), STACK);
    swapcontext(&m.scheduler, &fiber.context);
    __sanitizer_finish_switch_fiber(m.scheduler_fake, nullptr, nullptr);
}

void start(Block &block, dim3 index, u32 threads, u32 shared) {
    block.index = index;
    block.fibers.resize(threads);
    block.shared.assign((shared + 7) / 8, 0xA5A5A5A5A5A5A5A5ull);
    for (u32 i = 0; i < threads; i++) {
        Fiber &fiber = block.fibers[i];
        fiber.number = i;
        fiber.done = fiber.at_barrier = fiber.at_warp = false;
        fiber.fake_stack = nullptr;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, entry, 0);
    }
}

// Runs each thread of a block until it must wait. Returns whether the block has ended.
bool advance(Block &block) {
    machine.block = &block;
    u32 done = 0, waiting = 0, threads = (u32)block.fibers.size();
    bool moved = false;
    for (Fiber &fiber : block.fibers) {
        if (!fiber.done && !fiber.at_barrier && !fiber.at_warp) {
            resume(fiber);
            moved = true;
        }
        done += fiber.done;
        waiting += fiber.at_barrier;
    }
    if (done == threads) return true;
    if (done + waiting == threads) {
        for (Fiber &fiber : block.fibers) fiber.at_barrier = false;
    } else if (!moved) {
        fail("threads wait for others that never come");
    }
    return false;
}

}  // namespace

u32 thread() { return machine.current->number; }
dim3 block() { return machine.block->index; }
u32 threads() { return (u32)machine.block->fibers.size(); }
dim3 grid() { return machine.grid; }
u8 *shared() { return (u8 *)machine.block->shared.data(); }

void fail(const char *why) {
    std::fprintf(stderr, "simt: %s\n", why);
    std::abort();
}

void yield() { leave(false); }

void perhaps_yield() {
    u32 &chance = machine.chance;
    chance = chance * 1664525 + 1013904223;
    if (chance >> 29 == 0) yield();
}

void barrier() {
    machine.current->at_barrier = true;
    yield();
}

const u64 *meet(u32 mask, u64 value) {
    Fiber *self = machine.current;
    u32 lane = self->number % WARP, warp = self->number / WARP;
    if (!(mask >> lane & 1)) fail("a warp operation is called by a thread outside its mask");
    Block &block = *machine.block;
    Rendezvous &here = block.warps[warp][mask];
    here.values[lane] = value;
    here.arrived |= 1u << lane;
    if (here.arrived != mask) {
        self->at_warp = true;
        yield();
    } else {
        std::memcpy(here.all, here.values, sizeof here.all);
        here.arrived = 0;
        for (u32 i = 0; i < WARP; i++) {
            if (mask >> i & 1) block.fibers[warp * WARP + i].at_warp = false;
        }
    }
    return here.all;
}

void run(void (*body)(void **), void **arguments, dim3 grid, u32 threads, u32 shared, u32 together) {
    Machine &m = machine;
    m.body = body;
    m.arguments = arguments;
    m.grid = grid;
    u64 next = m.first, blocks = (u64)grid.x * grid.y;
    if (m.end < blocks) blocks = m.end;
    bool runs[MOST_BLOCKS] = {};
    for (u64 ended = next; ended < blocks;) {
        for (u32 i = 0; i < together; i++) {
            if (!runs[i] && next < blocks) {
                start(m.blocks[i], dim3{(u32)(next % grid.x), (u32)(next / grid.x), 1}, threads, shared);
                runs[i] = true;
                next++;
            }
            if (runs[i] && advance(m.blocks[i])) {
                runs[i] = false;
                ended++;
            }
        }
    }
}

}  // namespace simt

// From now on, launches run only these of their blocks.
extern "C" void run_only(u64 first, u64 end) {
    simt::machine.first = first;
    simt::machine.end = end;
}
