/* Digests of KV blocks (base/digest.h): XXH3-64 of each leaf of 4 KiB by eight lanes, then of the leaves' digests.
 *
 * The hash's eight accumulators are eight lanes, and a stripe of 64 bytes is one step of them, so that a leaf is 64 steps and four
 * leaves fit a warp.  Each lane takes eight stripes' words (16 bytes each: its own number and its neighbour's, which it adds) before
 * it uses the first: 512 threads of a multiprocessor hold 32 KiB in flight, and HBM's rate times its delay is 25.  A stripe costs a lane one 32 x 32 -> 64 bit
 * product and some ten simple operations for 8 bytes: 1.6 a byte, a tenth of what the chip does while it reads that byte. */
#include <assert.h>
#include "base/digest.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/kv_digest.h"
#include "kernels/cuda/simt.h"

#define PRIME32_1 UINT64_C(0x9e3779b1)
#define PRIME32_2 UINT64_C(0x85ebca77)
#define PRIME32_3 UINT64_C(0xc2b2ae3d)
#define PRIME64_1 UINT64_C(0x9e3779b185ebca87)
#define PRIME64_2 UINT64_C(0xc2b2ae3d27d4eb4f)
#define PRIME64_3 UINT64_C(0x165667b19e3779f9)
#define PRIME64_4 UINT64_C(0x85ebca77c2b2ae63)
#define PRIME64_5 UINT64_C(0x27d4eb2f165667c5)
#define MIX_1	  UINT64_C(0x165667919e3779f9)
#define MIX_2	  UINT64_C(0x9fb21c651e98df25)

enum {
	STRIPE = 64,
	STRIPES = 16, /* until the lanes are scrambled */
	SECRET_WORDS = 24,
	SECRET_SCRAMBLE = 16, /* in words */
	SECRET_LAST = 121,    /* in bytes: of the last stripe */
	SECRET_MERGE = 11,
	SHORT_MAX = 240,      /* bytes: shorter ones have no stripes */
	BATCH = 8,	      /* stripes in flight */
};

/* XXH3's secret, as little-endian words. */
SIMT_CONSTANT uint64_t xxh3_secret[SECRET_WORDS] = {
	0xbe4ba423396cfeb8, 0x1cad21f72c81017c, 0xdb979083e96dd4de, 0x1f67b3b7a4a44072, 0x78e5c0cc4ee679cb, 0x2172ffcc7dd05a82,
	0x8e2443f7744608b8, 0x4c263a81e69035e0, 0xcb00c391bb52283c, 0xa32e531b8b65d088, 0x4ef90da297486471, 0xd8acdea946ef1938,
	0x3f349ce33f76faa8, 0x1d4f0bc7c7bbdcf9, 0x3159b4cd4be0518a, 0x647378d9c97e9fc8, 0xc3ebd33483acc5ea, 0xeb6313faffa081c5,
	0x49daf0b751dd0d17, 0x9e68d429265516d3, 0xfca1477d58be162b, 0xce31d07ad1b8f88f, 0x280416958f3acb45, 0x7e404bbbcafbd7af,
};

/* Eight bytes at any place of the secret. */
SIMT_DEVICE uint64_t secret_at(const uint64_t *secret, uint32_t byte)
{
	uint32_t shift = byte % 8 * 8;
	uint64_t low = secret[byte / 8] >> shift;
	return shift == 0 ? low : low | secret[byte / 8 + 1] << (64 - shift);
}

SIMT_DEVICE uint64_t folded(uint64_t a, uint64_t b)
{
	return a * b ^ simt_multiply_high(a, b);
}

SIMT_DEVICE uint64_t avalanche(uint64_t h)
{
	h = (h ^ h >> 37) * MIX_1;
	return h ^ h >> 32;
}

SIMT_DEVICE uint64_t swapped(uint64_t x)
{
	x = (x & UINT64_C(0x00ff00ff00ff00ff)) << 8 | (x >> 8 & UINT64_C(0x00ff00ff00ff00ff));
	x = (x & UINT64_C(0x0000ffff0000ffff)) << 16 | (x >> 16 & UINT64_C(0x0000ffff0000ffff));
	return x << 32 | x >> 32;
}

/* --- where bytes are ------------------------------------------------------------------------------------------- */

/* In one piece. */
struct whole_bytes {
	const uint64_t *data;

	SIMT_MEMBER const uint64_t *at(uint32_t byte) const
	{
		return data + byte / 8;
	}
};

/* A layer whose heads are in several pieces, from byte `first` on: 64 bytes at a multiple of 64 are together in any case. */
struct layer_pieces {
	const uint8_t *const *base;
	size_t block; /* offset of the block in each */
	uint32_t piece_bytes, first;

	SIMT_MEMBER const uint64_t *at(uint32_t byte) const
	{
		uint32_t piece = (first + byte) / piece_bytes;
		return reinterpret_cast<const uint64_t *>(base[piece] + block + (first + byte - piece * piece_bytes));
	}
};

/* --- up to 240 bytes, whole words ----------------------------------------------------------------------------- */

SIMT_DEVICE uint64_t mix16(const uint64_t *at, const uint64_t *secret, uint32_t byte, uint64_t seed)
{
	return folded(at[0] ^ (secret_at(secret, byte) + seed), at[1] ^ (secret_at(secret, byte + 8) - seed));
}

SIMT_DEVICE uint64_t hash_8(uint64_t word, uint64_t seed, const uint64_t *secret)
{
	seed ^= (swapped(seed & UINT32_MAX) >> 32) << 32;
	uint64_t h = (word >> 32 | word << 32) ^ ((secret[1] ^ secret[2]) - seed);
	h ^= (h << 49 | h >> 15) ^ (h << 24 | h >> 40);
	h *= MIX_2;
	h = (h ^ ((h >> 35) + 8)) * MIX_2;
	return h ^ h >> 28;
}

SIMT_DEVICE uint64_t hash_16(const uint64_t *at, uint64_t seed, const uint64_t *secret)
{
	uint64_t low = at[0] ^ ((secret[3] ^ secret[4]) + seed), high = at[1] ^ ((secret[5] ^ secret[6]) - seed);
	return avalanche(16 + swapped(low) + high + folded(low, high));
}

/* 24 .. 240 bytes, from both ends to the middle up to 128. */
template <typename bytes_t> SIMT_DEVICE uint64_t hash_middle(const bytes_t &from, uint32_t bytes, uint64_t seed, const uint64_t *secret)
{
	uint64_t sum = bytes * PRIME64_1;
	if (bytes <= 128) {
		for (uint32_t i = 0; i <= (bytes - 1) / 32; i++)
			sum += mix16(from.at(16 * i), secret, 32 * i, seed) +
			       mix16(from.at(bytes - 16 * i - 16), secret, 32 * i + 16, seed);
		return avalanche(sum);
	}
	for (uint32_t i = 0; i < 8; i++)
		sum += mix16(from.at(16 * i), secret, 16 * i, seed);
	sum = avalanche(sum);
	for (uint32_t i = 8; i < bytes / 16; i++)
		sum += mix16(from.at(16 * i), secret, 16 * (i - 8) + 3, seed);
	return avalanche(sum + mix16(from.at(bytes - 16), secret, 136 - 17, seed));
}

template <typename bytes_t> SIMT_DEVICE uint64_t hash_short(const bytes_t &from, uint32_t bytes, uint64_t seed, const uint64_t *secret)
{
	if (bytes == 8)
		return hash_8(*from.at(0), seed, secret);
	return bytes == 16 ? hash_16(from.at(0), seed, secret) : hash_middle(from, bytes, seed, secret);
}

/* --- longer, by eight lanes --------------------------------------------------------------------------------------- */

SIMT_DEVICE uint64_t lane_start(uint32_t lane)
{
	const uint64_t low = lane & 1 ? PRIME64_1 : PRIME32_3, second = lane & 1 ? PRIME64_3 : PRIME64_2;
	const uint64_t third = lane & 1 ? PRIME32_2 : PRIME64_4, last = lane & 1 ? PRIME32_1 : PRIME64_5;
	return lane < 4 ? (lane < 2 ? low : second) : (lane < 6 ? third : last);
}

/* The two numbers of a stripe that this lane and its neighbour stand for. */
struct lane_words {
	uint64_t own, other;
};

SIMT_DEVICE lane_words stripe_words(const uint64_t *stripe, uint32_t lane)
{
	const ulonglong2 both = *reinterpret_cast<const ulonglong2 *>(stripe + (lane & ~1u));
	return lane & 1 ? lane_words{both.y, both.x} : lane_words{both.x, both.y};
}

SIMT_DEVICE uint64_t accumulated(uint64_t sum, lane_words words, uint64_t key)
{
	key ^= words.own;
	return sum + words.other + (key & UINT32_MAX) * (key >> 32);
}

/* `bytes` over SHORT_MAX in whole words at a multiple of 16; secret: seeded, in shared memory. All lanes of a warp come; each eight
 * have data of their own. */
template <typename bytes_t> SIMT_DEVICE uint64_t hash_long(const bytes_t &from, uint32_t bytes, const uint64_t *secret)
{
	uint32_t lane = simt_lane() % 8, stripes = (bytes - 1) / STRIPE;
	uint64_t sum = lane_start(lane), scramble = secret[SECRET_SCRAMBLE + lane];
	lane_words words[BATCH] = {};
	SIMT_ROLLED
	for (uint32_t first = 0; first < stripes; first += BATCH) {
		SIMT_UNROLL
		for (uint32_t i = 0; i < BATCH; i++)
			if (first + i < stripes)
				words[i] = stripe_words(from.at((first + i) * STRIPE), lane);
		SIMT_UNROLL
		for (uint32_t i = 0; i < BATCH; i++)
			if (first + i < stripes)
				sum = accumulated(sum, words[i], secret[(first + i) % STRIPES + lane]);
		if (first % STRIPES == STRIPES - BATCH && first + BATCH <= stripes)
			sum = (sum ^ sum >> 47 ^ scramble) * PRIME32_1;
	}
	/* The last 64 bytes, which need not lie at a multiple of 16. */
	const uint64_t *last = from.at(bytes - STRIPE);
	sum = accumulated(sum, lane_words{last[lane], last[lane ^ 1]}, secret_at(secret, SECRET_LAST + 8 * lane));
	uint64_t mixed = sum ^ secret_at(secret, SECRET_MERGE + 8 * lane);
	uint64_t product = folded(mixed, simt_shuffle_xor(mixed, 1)); /* both lanes of a pair have it */
	product += simt_shuffle_xor(product, 2);
	product += simt_shuffle_xor(product, 4);
	return avalanche(product + bytes * PRIME64_1);
}

/* --- blocks ------------------------------------------------------------------------------------------------------------ */

#define DIGEST_THREADS 256
#define DIGEST_OCTETS  (DIGEST_THREADS / 8)
#define DIGEST_BLOCKS  4096 /* at most along x */

struct digest_job {
	struct cuda_runs_view runs;
	const uint8_t *base[DEVICES_MAX]; /* of the layer, in block 0: of its heads, piece by piece */
	size_t block_stride;
	uint32_t bytes, piece_bytes; /* of the layer, and of a piece of it */
	uint32_t block_tokens, block_first, layer, layer_count;
	uint32_t turn, turns;
	uint64_t *ret_digests;
};

/* Leaves of a layer.  `cut`: pieces end within leaves. */
template <bool cut> struct layer_leaves {
	const digest_job *job;
	size_t block; /* offset of the block in each piece */

	SIMT_MEMBER auto leaf(uint32_t number) const
	{
		layer_pieces pieces = {job->base, block, job->piece_bytes, number * DIGEST_LEAF_BYTES};
		if constexpr (cut)
			return pieces;
		else
			return whole_bytes{pieces.at(0)};
	}
};

/* Of what lies in one piece. */
struct plain_leaves {
	const uint64_t *data;

	SIMT_MEMBER whole_bytes leaf(uint32_t number) const
	{
		return whole_bytes{data + (size_t)number * (DIGEST_LEAF_BYTES / 8)};
	}
};

/* Digests of the leaves to leaves[]; whole ones by eight lanes each, what is left behind them by the first warp. */
template <typename leaves_t>
SIMT_DEVICE void digest_leaves(const leaves_t &from, uint32_t bytes, const uint64_t *secret, uint64_t *leaves)
{
	uint32_t whole = bytes / DIGEST_LEAF_BYTES, left = bytes % DIGEST_LEAF_BYTES;
	for (uint32_t first = 0; first < whole; first += DIGEST_OCTETS) {
		uint32_t leaf = first + threadIdx.x / 8;
		uint32_t read = leaf < whole ? leaf : whole - 1; /* the warp stays together */
		uint64_t hash = hash_long(from.leaf(read), DIGEST_LEAF_BYTES, secret);
		if (leaf < whole && threadIdx.x % 8 == 0)
			leaves[leaf] = hash;
	}
	if (left == 0 || simt_warp() != 0)
		return;
	const auto rest = from.leaf(whole);
	uint64_t hash = left > SHORT_MAX ? hash_long(rest, left, secret) : hash_short(rest, left, 0, secret);
	if (threadIdx.x == 0)
		leaves[whole] = hash;
}

/* Of all of it, by the whole block; thread 0 has it. seeded: by `bytes`. */
template <typename leaves_t>
SIMT_DEVICE uint64_t digest_whole(const leaves_t &from, uint32_t bytes, const uint64_t *secret, const uint64_t *seeded, uint64_t *leaves)
{
	uint32_t leaf_bytes = (bytes + DIGEST_LEAF_BYTES - 1) / DIGEST_LEAF_BYTES * 8;
	const whole_bytes all = {leaves};
	uint64_t hash = 0;
	digest_leaves(from, bytes, secret, leaves);
	simt_sync();
	if (simt_warp() == 0)
		hash = leaf_bytes > SHORT_MAX ? hash_long(all, leaf_bytes, seeded) : hash_short(all, leaf_bytes, bytes, secret);
	simt_sync();
	return hash;
}

SIMT_DEVICE void read_secret(uint32_t bytes, uint64_t *secret, uint64_t *seeded)
{
	if (threadIdx.x < SECRET_WORDS) {
		secret[threadIdx.x] = xxh3_secret[threadIdx.x];
		seeded[threadIdx.x] = threadIdx.x % 2 == 0 ? xxh3_secret[threadIdx.x] + bytes : xxh3_secret[threadIdx.x] - bytes;
	}
	simt_sync();
}

/* Blocks of a run along x, runs along y; the grid is of no consequence. */
template <bool cut> SIMT_KERNEL_OF(kv_digest, DIGEST_THREADS, 2)(const digest_job job)
{
	SIMT_DYNAMIC_SHARED(uint64_t, leaves);
	SIMT_SHARED uint64_t secret[SECRET_WORDS], seeded[SECRET_WORDS];
	read_secret(job.bytes, secret, seeded);
	for (uint32_t r = blockIdx.y; r < job.runs.counts[CUDA_COUNT_RUNS]; r += gridDim.y) {
		const cuda_run run = job.runs.runs[r];
		uint32_t first = run.first_position / job.block_tokens;
		uint32_t last = (run.first_position + run.row_count - 1) / job.block_tokens;
		for (uint32_t b = first + blockIdx.x; run.digest && b <= last; b += gridDim.x) {
			uint32_t number = job.runs.tables[run.table + b];
			size_t block = number - job.block_first;
			if (number % job.turns != job.turn)
				continue;
			const layer_leaves<cut> layer = {&job, block * job.block_stride};
			uint64_t hash = digest_whole(layer, job.bytes, secret, seeded, leaves);
			if (threadIdx.x == 0)
				job.ret_digests[block * job.layer_count + job.layer] = hash;
		}
	}
}

/* The bytes of the layer of each block, once; 8 of each go to host memory. */
void cuda_kv_digest(struct device *device, const struct kv_digest_call *call)
{
	const struct kv_memory *kv = call->parts;
	const struct kv_layout *layout = &kv->layout;
	size_t piece = kv_layer_bytes(layout), bytes = call->part_count * piece;
	size_t shared_bytes = (bytes + DIGEST_LEAF_BYTES - 1) / DIGEST_LEAF_BYTES * 8;
	digest_job job = {cuda_runs_of(call->runs)->view, {}, kv->block_stride, (uint32_t)bytes, (uint32_t)piece,
			  layout->block_tokens, kv->block_first, call->layer, layout->layer_count, call->turn, call->turns,
			  call->ret_digests};
	for (uint32_t i = 0; i < call->part_count; i++)
		job.base[i] = (const uint8_t *)call->parts[i].base + call->layer * kv->layer_stride;
	assert(piece % 16 == 0 && kv->block_stride % 16 == 0 && (uintptr_t)kv->base % 16 == 0 && shared_bytes <= CUDA_SHARED_USUAL);
	assert(call->part_count == 1 || (piece % STRIPE == 0 && call->part_count <= DEVICES_MAX));
	uint32_t blocks = cuda_runs_of(call->runs)->rows_longest / layout->block_tokens + 2;
	dim3 grid(blocks < DIGEST_BLOCKS ? blocks : DIGEST_BLOCKS, call->runs->count + call->runs->padding), block(DIGEST_THREADS);
	bool cut = call->part_count > 1 && piece % DIGEST_LEAF_BYTES != 0;
	if (!cuda_alive(device) || grid.y == 0)
		return;
	cudaError_t e = cut ? SIMT_LAUNCH(kv_digest<true>, grid, block, shared_bytes, cuda_stream(device), job)
			    : SIMT_LAUNCH(kv_digest<false>, grid, block, shared_bytes, cuda_stream(device), job);
	cuda_check(cuda_of(device), e, "kv_digest");
}

/* --- pieces of any size ------------------------------------------------------------------------------------------------- */

SIMT_KERNEL_OF(digest_pieces, DIGEST_THREADS, 2)(const digest_piece *pieces, uint64_t *ret_digests)
{
	SIMT_DYNAMIC_SHARED(uint64_t, leaves);
	SIMT_SHARED uint64_t secret[SECRET_WORDS], seeded[SECRET_WORDS];
	const digest_piece piece = pieces[blockIdx.x];
	read_secret(piece.bytes, secret, seeded);
	uint64_t hash = digest_whole(plain_leaves{piece.data}, piece.bytes, secret, seeded, leaves);
	if (threadIdx.x == 0)
		ret_digests[blockIdx.x] = hash;
}

cudaError_t cuda_digest_pieces(const struct digest_piece *pieces, uint32_t count, uint32_t bytes_max, uint64_t *ret_digests,
			       cudaStream_t stream)
{
	size_t shared_bytes = ((size_t)bytes_max + DIGEST_LEAF_BYTES - 1) / DIGEST_LEAF_BYTES * 8;
	assert(shared_bytes <= CUDA_SHARED_USUAL);
	return SIMT_LAUNCH(digest_pieces, dim3(count), dim3(DIGEST_THREADS), shared_bytes, stream, pieces, ret_digests);
}
