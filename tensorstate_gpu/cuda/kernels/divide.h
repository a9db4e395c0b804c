// Division by numbers that the host knows, of numbers below 2**31: cuda/divisor.py computes the multiplier.
// Dividing by a number that is only known here takes about twenty instructions.
struct Divisor {
    u32 by, multiplier, shift;
};

DEVICE u32 divide(u32 number, const Divisor &divisor) {
    return __umulhi(2 * number, divisor.multiplier) >> divisor.shift;
}
