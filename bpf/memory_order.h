/* SPDX-License-Identifier: GPL-2.0-only */
/* The order in which other CPUs see loads and stores.
 *
 * x86-64 keeps that of the program: nothing is needed. Where the loader says WEAK_ORDER (arm64), a
 * load is kept behind an earlier one by an address that depends on what the earlier one read (Arm
 * ARM, B2.3.6), and a store behind earlier ones by a compare and swap, which is a barrier for all
 * (bpf_arm64 JIT: CASAL, or STLXR and DMB). */
#ifndef XDPDIRECTOR_MEMORY_ORDER_H
#define XDPDIRECTOR_MEMORY_ORDER_H

#include "branchless.h"

static __always_inline u64 read_once(const u64 *at)
{
	return *(const volatile u64 *)at;
}

#ifdef WEAK_ORDER

/* The same address, not known before `read`, the result of a load. */
static __always_inline const u64 *behind(const u64 *at, u64 read)
{
	asm volatile("%0 &= 0" : "+r"(read));
	return (const u64 *)((const void *)at + read);
}

/* What was read, for `behind`: the compiler must not take an equal number for it. */
static __always_inline u64 as_read(u64 value)
{
	return opaque(value);
}

/* Store `to` where `from` is, behind all earlier stores. */
static __always_inline void store_release(u64 *at, u64 from, u64 to)
{
	__sync_val_compare_and_swap(at, from, to);
}

#else

static __always_inline const u64 *behind(const u64 *at, u64 read)
{
	return at;
}

static __always_inline u64 as_read(u64 value)
{
	return value;
}

static __always_inline void store_release(u64 *at, u64 from, u64 to)
{
	*(volatile u64 *)at = to;
}

#endif

#endif
