/* SPDX-License-Identifier: GPL-2.0-only */
/* The Internet checksum (RFC 1071) of what reject.h makes. */
#ifndef XDPDIRECTOR_CSUM_H
#define XDPDIRECTOR_CSUM_H

#include "parse.h"

#define MAX_SUMMED  1232  /* bytes: the longest quoted packet, see reject.h */
#define LENGTH_MASK 0x7ff /* bounds of such a length, for the verifier */
#define BLOCK	    64	  /* bytes per call of bpf_csum_diff() */
#define WORD	    sizeof(u32)

_Static_assert(MAX_SUMMED <= LENGTH_MASK, "a mask cuts off lengths");

struct pseudo4 {
	__be32 source;
	__be32 destination;
	__be16 protocol;
	__be16 length;
};

struct pseudo6 {
	__be32 source[4];
	__be32 destination[4];
	__be32 length;
	__be32 protocol;
};

/* `size` is a multiple of 4. The sum has 32 bits in Linux 6.1; BCC declares it an int, which must
 * not be sign-extended. */
static __always_inline u32 csum_add(void *from, u32 size, u32 sum)
{
	return bpf_csum_diff(0, 0, from, size, sum);
}

static __always_inline __be16 csum_fold(u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Add the Internet checksum of the bytes in [from, end), of any length up to MAX_SUMMED. */
static __always_inline u64 csum_add_bytes(void *from, void *end, u32 length, u64 sum)
{
	u8 *byte = from;

	for (u32 i = 0; i + BLOCK <= MAX_SUMMED; i += BLOCK) {
		asm volatile("" : "+r"(byte)); /* keep the comparison as the verifier needs it */
		if (i + BLOCK > length || (void *)(byte + BLOCK) > end)
			break;
		sum = csum_add(byte, BLOCK, sum);
		byte += BLOCK;
	}
	/* Not from the loop's counter: after the loop the verifier has one state to go on from. */
	byte = from + (length & LENGTH_MASK & ~(BLOCK - 1));
	for (u32 i = 0; i < BLOCK; i += WORD) {
		asm volatile("" : "+r"(byte));
		if (i + WORD > length % BLOCK || (void *)(byte + WORD) > end)
			break;
		sum += *(u32 *)byte;
		byte += WORD;
	}
	byte = from + (length & LENGTH_MASK & ~(WORD - 1));
	for (u32 i = 0; i < WORD - 1; i++) {
		asm volatile("" : "+r"(byte));
		if (i >= length % WORD || (void *)(byte + 1) > end)
			break;
		sum += i & 1 ? (u32)*byte << 8 : *byte;
		byte += 1;
	}
	return sum;
}

#endif
