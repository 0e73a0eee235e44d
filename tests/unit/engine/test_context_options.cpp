#include <gtest/gtest.h>

#include "engine/context_options.h"

namespace syncyte {
namespace {

TEST(CacheTypes, are_named_once_or_for_keys_and_values) {
    for (const char* name : {"f16", "f32", "q8_0", "q4_0", "q8_0,f16", "f16,q4_0"}) {
        const auto types = cache_types_named(name);
        ASSERT_TRUE(types) << name;
        EXPECT_EQ(to_string(*types), name);
    }
    EXPECT_EQ(to_string(*cache_types_named("q8_0,q8_0")), "q8_0");
    EXPECT_EQ(cache_types_named("f16"), CacheTypes{});
}

TEST(CacheTypes, have_no_other_names) {
    for (const char* name : {"", ",", "f16,", ",f16", "q5", "F16", "f16,f16,f16", "f16 "}) {
        EXPECT_FALSE(cache_types_named(name)) << name;
    }
}

TEST(CacheTypes, need_flash_attention_where_values_are_quantised) {
    EXPECT_FALSE(need_flash_attention(*cache_types_named("f32")));
    EXPECT_FALSE(need_flash_attention(*cache_types_named("q8_0,f16")));
    EXPECT_TRUE(need_flash_attention(*cache_types_named("f16,q8_0")));
    EXPECT_TRUE(need_flash_attention(*cache_types_named("q4_0")));
}

}  // namespace
}  // namespace syncyte
