// Copying bytes that may begin anywhere.

#define BYTES_AT_ONCE 4

// Copies the next bytes of ``left`` that are left: at once where both sides are aligned, else one by one.
DEVICE void copy_bytes(u8 *target, const u8 *from, i64 left) {
    if (((u64)target | (u64)from) % BYTES_AT_ONCE == 0 && left >= BYTES_AT_ONCE) {
        *(u32 *)target = *(const u32 *)from;
    } else {
        for (i32 i = 0; i < BYTES_AT_ONCE && i < left; i++) target[i] = from[i];
    }
}
