/* Hello-c sends a greeting through zlib and back. __FILE__ in its error messages is why a build must map its folder. */

#include <stdio.h>
#include <string.h>

#include <zlib.h>

static int fail(const char *what, int line)
{
    fprintf(stderr, "hello-c: %s failed (%s:%d)\n", what, __FILE__, line);
    return 1;
}

int main(void)
{
    static const char greeting[] = "Hello, hello, hello, trust domain";
    unsigned char packed[128];
    char back[sizeof greeting];
    uLongf packed_size = sizeof packed;
    uLongf back_size = sizeof back;

    if (compress(packed, &packed_size, (const Bytef *)greeting, sizeof greeting) != Z_OK)
        return fail("compress", __LINE__);
    if (uncompress((Bytef *)back, &back_size, packed, packed_size) != Z_OK)
        return fail("uncompress", __LINE__);
    if (back_size != sizeof greeting || memcmp(back, greeting, sizeof greeting) != 0)
        return fail("comparison", __LINE__);
    printf("hello-c: \"%s\" came back whole, crc32 %08lx\n", back,
           crc32(0L, (const Bytef *)greeting, sizeof greeting - 1));
    return 0;
}
