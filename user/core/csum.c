/* SPDX-License-Identifier: MIT */
#include "csum.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

static uint32_t csum_reduce(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (uint32_t)((sum & 0xffffffff) + (sum >> 32));
}

static uint32_t csum_scalar(const void *data, size_t len, uint32_t start)
{
	const uint8_t *p = data;
	uint64_t sum = start;

	while (len >= 4) {
		uint32_t word;

		memcpy(&word, p, sizeof(word));
		sum += word;
		p += 4;
		len -= 4;
	}
	if (len) {
		uint32_t word = 0;

		memcpy(&word, p, len);
		sum += word;
	}
	return csum_reduce(sum);
}

#if defined(__x86_64__)
/* Words of 32 bits are added in 64-bit lanes: no carry is lost for any length below 16 GB. */
static uint32_t csum_sse2(const void *data, size_t len, uint32_t start)
{
	const uint8_t *p = data;
	__m128i low = _mm_setzero_si128(), high = low, zero = low;
	uint64_t lanes[2];

	for (; len >= 16; p += 16, len -= 16) {
		__m128i words = _mm_loadu_si128((const __m128i *)p);

		low = _mm_add_epi64(low, _mm_unpacklo_epi32(words, zero));
		high = _mm_add_epi64(high, _mm_unpackhi_epi32(words, zero));
	}
	_mm_storeu_si128((__m128i *)lanes, _mm_add_epi64(low, high));
	return csum_scalar(p, len, csum_reduce((uint64_t)start + csum_reduce(lanes[0]) + csum_reduce(lanes[1])));
}

__attribute__((target("avx2"))) static uint32_t csum_avx2(const void *data, size_t len, uint32_t start)
{
	const uint8_t *p = data;
	__m256i zero = _mm256_setzero_si256(), a = zero, b = zero, c = zero, d = zero;
	uint64_t lanes[4], sum = start;

	for (; len >= 64; p += 64, len -= 64) {
		__m256i first = _mm256_loadu_si256((const __m256i *)p);
		__m256i second = _mm256_loadu_si256((const __m256i *)(p + 32));

		a = _mm256_add_epi64(a, _mm256_unpacklo_epi32(first, zero));
		b = _mm256_add_epi64(b, _mm256_unpackhi_epi32(first, zero));
		c = _mm256_add_epi64(c, _mm256_unpacklo_epi32(second, zero));
		d = _mm256_add_epi64(d, _mm256_unpackhi_epi32(second, zero));
	}
	_mm256_storeu_si256((__m256i *)lanes, _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d)));
	for (int i = 0; i < 4; i++)
		sum += csum_reduce(lanes[i]);
	return csum_sse2(p, len, csum_reduce(sum));
}
#elif defined(__aarch64__)
static uint32_t csum_neon(const void *data, size_t len, uint32_t start)
{
	const uint8_t *p = data;
	uint64x2_t sums = vdupq_n_u64(0);

	for (; len >= 16; p += 16, len -= 16)
		sums = vpadalq_u32(sums, vreinterpretq_u32_u8(vld1q_u8(p)));
	return csum_scalar(p, len,
			   csum_reduce((uint64_t)start + csum_reduce(vgetq_lane_u64(sums, 0)) +
				       csum_reduce(vgetq_lane_u64(sums, 1))));
}
#endif

static const struct csum_variant csum_known[] = {
	{"scalar", csum_scalar},
#if defined(__x86_64__)
	{"sse2", csum_sse2},
	{"avx2", csum_avx2},
#elif defined(__aarch64__)
	{"neon", csum_neon},
#endif
};

static const struct csum_variant *csum_chosen = &csum_known[0];

size_t csum_variants(const struct csum_variant **out)
{
	size_t count = sizeof(csum_known) / sizeof(csum_known[0]);

	*out = csum_known;
#if defined(__x86_64__)
	if (!__builtin_cpu_supports("avx2"))
		count--;
#endif
	return count;
}

void csum_select(bool simd)
{
	const struct csum_variant *variants;
	size_t count = csum_variants(&variants);

	csum_chosen = &variants[simd ? count - 1 : 0];
}

const char *csum_name(void)
{
	return csum_chosen->name;
}

uint32_t csum_partial(const void *data, size_t len, uint32_t sum)
{
	return csum_chosen->partial(data, len, sum);
}

uint32_t csum_partial_at(const void *data, size_t len, uint32_t sum, uint32_t before)
{
	uint32_t piece;

	if (!(before & 1))
		return csum_partial(data, len, sum);
	/* its bytes stand in the other halves of the words: a sum is swapped as a whole (RFC 1071 2 (B)) */
	piece = csum_fold_sum(csum_partial(data, len, 0));
	return csum_fold_sum(sum) + (uint32_t)__builtin_bswap16((uint16_t)piece);
}

uint32_t csum_pseudo(const struct addr *src, const struct addr *dst, uint8_t proto, uint32_t l4_len)
{
	struct {
		__be32 len;
		uint8_t zero[3], proto;
	} tail = {.len = be32(l4_len), .proto = proto};
	size_t skip = addr_is_ipv4(src) ? 12 : 0;
	uint32_t sum = csum_scalar(&tail, sizeof(tail), 0);

	/* the IPv4 pseudo-header has a 16-bit length: as a ones-complement sum the same */
	sum = csum_scalar(src->bytes + skip, 16 - skip, sum);
	return csum_scalar(dst->bytes + skip, 16 - skip, sum);
}
