/* SPDX-License-Identifier: MIT */
/* The keyed hash of every table whose keys come from the wire: nobody without the secret can make entries collide. */
#ifndef SOCKSPLICE_SIPHASH_H
#define SOCKSPLICE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* SipHash-2-4 (Aumasson, Bernstein 2012) over whole 64-bit words. */
#define SIP_ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIP_ROUND(v0, v1, v2, v3)                                                                                      \
	do {                                                                                                           \
		v0 += v1;                                                                                              \
		v1 = SIP_ROTATE(v1, 13) ^ v0;                                                                          \
		v0 = SIP_ROTATE(v0, 32);                                                                               \
		v2 += v3;                                                                                              \
		v3 = SIP_ROTATE(v3, 16) ^ v2;                                                                          \
		v0 += v3;                                                                                              \
		v3 = SIP_ROTATE(v3, 21) ^ v0;                                                                          \
		v2 += v1;                                                                                              \
		v1 = SIP_ROTATE(v1, 17) ^ v2;                                                                          \
		v2 = SIP_ROTATE(v2, 32);                                                                               \
	} while (0)

static inline uint64_t siphash_words(const uint8_t secret[16], const uint64_t *words, size_t count)
{
	uint64_t k0, k1, v0, v1, v2, v3;

	memcpy(&k0, secret, 8);
	memcpy(&k1, secret + 8, 8);
	v0 = k0 ^ 0x736f6d6570736575ull;
	v1 = k1 ^ 0x646f72616e646f6dull;
	v2 = k0 ^ 0x6c7967656e657261ull;
	v3 = k1 ^ 0x7465646279746573ull;
	for (size_t i = 0; i < count; i++) {
		v3 ^= words[i];
		SIP_ROUND(v0, v1, v2, v3);
		SIP_ROUND(v0, v1, v2, v3);
		v0 ^= words[i];
	}
	v2 ^= 0xff;
	for (int i = 0; i < 4; i++)
		SIP_ROUND(v0, v1, v2, v3);
	return v0 ^ v1 ^ v2 ^ v3;
}

#endif
