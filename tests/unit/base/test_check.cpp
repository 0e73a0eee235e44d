#include <gtest/gtest.h>

#include "base/check.h"

namespace syncyte {
namespace {

TEST(CheckDeathTest, names_the_broken_invariant) {
    EXPECT_DEATH(check(1 + 1 == 3, "arithmetic holds"), "broken invariant: arithmetic holds");
}

}  // namespace
}  // namespace syncyte
