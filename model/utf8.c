#include "model/utf8.h"

#include <utf8proc.h>

/* Unicode 15, table 3-7: which second bytes may follow a first byte. */
static int lead(uint8_t first, uint8_t *ret_low, uint8_t *ret_high)
{
	*ret_low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
	*ret_high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if (first >= 0xe0 && first <= 0xef)
		return 3;
	return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

int utf8_step(const uint8_t *bytes, size_t length, uint32_t *ret_char)
{
	uint8_t low, high;
	int need = lead(bytes[0], &low, &high);
	if (need == 0)
		return -1;
	uint32_t character = need == 1 ? bytes[0] : bytes[0] & (0x7fu >> need);
	for (int i = 1; i < need; i++) {
		if ((size_t)i == length)
			return 0;
		if (bytes[i] < low || bytes[i] > high)
			return -i;
		character = character << 6 | (bytes[i] & 0x3fu);
		low = 0x80;
		high = 0xbf;
	}
	*ret_char = character;
	return need;
}

enum err utf8_append(struct buf *buf, uint32_t character)
{
	char text[4];
	size_t length;
	if (character < 0x80) {
		text[0] = (char)character;
		length = 1;
	} else if (character < 0x800) {
		text[0] = (char)(0xc0 | character >> 6);
		text[1] = (char)(0x80 | (character & 0x3f));
		length = 2;
	} else if (character < 0x10000) {
		text[0] = (char)(0xe0 | character >> 12);
		text[1] = (char)(0x80 | (character >> 6 & 0x3f));
		text[2] = (char)(0x80 | (character & 0x3f));
		length = 3;
	} else {
		text[0] = (char)(0xf0 | character >> 18);
		text[1] = (char)(0x80 | (character >> 12 & 0x3f));
		text[2] = (char)(0x80 | (character >> 6 & 0x3f));
		text[3] = (char)(0x80 | (character & 0x3f));
		length = 4;
	}
	return buf_append(buf, text, length);
}

/* The length of the valid text from the start. */
static size_t valid_prefix(const char *text, size_t length)
{
	size_t at = 0;
	uint32_t character;
	while (at < length) {
		if ((uint8_t)text[at] < 0x80) {
			at++;
			continue;
		}
		int n = utf8_step((const uint8_t *)text + at, length - at, &character);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	return at;
}

bool utf8_is_valid(const char *text, size_t length)
{
	return valid_prefix(text, length) == length;
}

enum err utf8_append_lossy(struct buf *buf, const char *text, size_t length)
{
	enum err e = ERR_OK;
	while (length > 0 && e == ERR_OK) {
		size_t good = valid_prefix(text, length);
		e = buf_append(buf, text, good);
		text += good;
		length -= good;
		if (length == 0 || e != ERR_OK)
			break;
		uint32_t character;
		int n = utf8_step((const uint8_t *)text, length, &character);
		size_t bad = n < 0 ? (size_t)-n : length;
		e = utf8_append(buf, 0xfffd);
		text += bad;
		length -= bad;
	}
	return e;
}

bool utf8_is_space(uint32_t c)
{
	return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
	       c == 0x3000;
}

bool utf8_is_word(uint32_t c)
{
	/* Letters that are symbols by category but Alphabetic by property, and the two joiners. */
	if ((c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
	    (c >= 0x1f170 && c <= 0x1f189) || c == 0x200c || c == 0x200d)
		return true;
	switch (utf8proc_category((utf8proc_int32_t)c)) {
	case UTF8PROC_CATEGORY_LU:
	case UTF8PROC_CATEGORY_LL:
	case UTF8PROC_CATEGORY_LT:
	case UTF8PROC_CATEGORY_LM:
	case UTF8PROC_CATEGORY_LO:
	case UTF8PROC_CATEGORY_NL:
	case UTF8PROC_CATEGORY_MN:
	case UTF8PROC_CATEGORY_MC:
	case UTF8PROC_CATEGORY_ME:
	case UTF8PROC_CATEGORY_ND:
	case UTF8PROC_CATEGORY_PC:
		return true;
	default:
		return false;
	}
}

size_t utf8_before(const char *text, size_t end, uint32_t *ret_char)
{
	size_t at = end - 1;
	while (at > 0 && ((uint8_t)text[at] & 0xc0) == 0x80)
		at--;
	*ret_char = 0xfffd;
	utf8_step((const uint8_t *)text + at, end - at, ret_char);
	return at;
}
