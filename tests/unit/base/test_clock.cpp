#include <gtest/gtest.h>

#include <limits>

#include "base/clock.h"

namespace syncyte {
namespace {

TEST(Deadline, extremes) {
    EXPECT_TRUE(Deadline::after(-1).is_now());
    EXPECT_TRUE(Deadline::after(0).passed());
    EXPECT_TRUE(Deadline::after(std::numeric_limits<double>::infinity()).is_never());
    EXPECT_TRUE(Deadline::after(std::numeric_limits<double>::quiet_NaN()).is_never());
    EXPECT_FALSE(Deadline::never().passed());
}

TEST(Deadline, is_kept_in_order) {
    EXPECT_LT(Deadline::now(), Deadline::after(0.5));
    EXPECT_LT(Deadline::after(0.5), Deadline::after(100));
    EXPECT_EQ(earlier(Deadline::never(), Deadline::now()), Deadline::now());
}

}  // namespace
}  // namespace syncyte
