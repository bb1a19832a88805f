/* SPDX-License-Identifier: GPL-2.0-only */
/* Arithmetic without branches. The verifier walks the code behind a branch once for each way into
 * it, so a branch in a loop is expensive; and the compiler makes branches of conditional
 * expressions. */
#ifndef XDPDIRECTOR_BRANCHLESS_H
#define XDPDIRECTOR_BRANCHLESS_H

/* The same number, without what compiler and verifier know about it. */
static __always_inline u64 opaque(u64 value)
{
	asm volatile("" : "+r"(value));
	return value;
}

/* All ones if the number is negative, else 0. */
static __always_inline u64 mask_if_negative(s64 number)
{
	return (s64)opaque(number) >> 63;
}

/* All ones if the number is not 0, else 0. */
static __always_inline u64 mask_if_nonzero(u64 number)
{
	return (s64)(number | opaque(-number)) >> 63;
}

/* `one` if the mask is all ones, `other` if it is 0. */
static __always_inline u64 select_by_mask(u64 mask, u64 one, u64 other)
{
	return other ^ ((one ^ other) & mask);
}

#endif
