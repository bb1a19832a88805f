/* SPDX-License-Identifier: GPL-2.0-only */
/* Arithmetic without branches. The verifier walks what follows a branch once for each way into it, so that a choice in a loop
 * is dear there; and the compiler makes branches of what looks like one. */
#ifndef XDPDIRECTOR_BRANCHLESS_H
#define XDPDIRECTOR_BRANCHLESS_H

/* The same number, of which neither compiler nor verifier know anything any more. */
static __always_inline u64 opaque(u64 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

/* All ones when the number is below zero, else 0. */
static __always_inline u64 if_negative(s64 number)
{
	return (s64)opaque(number) >> 63;
}

/* All ones when the number is not zero, else 0. */
static __always_inline u64 if_some(u64 number)
{
	return (s64)(number | opaque(-number)) >> 63;
}

/* `one` where the mask is all ones, `other` where it is 0. */
static __always_inline u64 either(u64 mask, u64 one, u64 other)
{
	return other ^ ((one ^ other) & mask);
}

#endif
