#include <vector>

namespace shop::inner {

/// What is bought.
template <class T>
class SHOP_API Cart : public Base {
public:
    Cart();
    ~Cart() {}
    int size() const;

    /// In cents.
    int total() const { return 1; }
    bool operator==(const Cart &other) const { return true; }
};

enum class Colour { Red };

}  // namespace shop::inner

SHOP_INLINE int shop::inner::Cart<int>::size() const SHOP_NOEXCEPT {
    return 0;
}

int &open() {
    static int one;
    return one;
}
