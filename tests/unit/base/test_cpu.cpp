#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/cpu.h"

namespace syncyte {
namespace {

class Quota : public testing::Test {
  protected:
    void SetUp() override {
        std::string name = testing::TempDir() + "quotaXXXXXX";
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        root_ = name;
    }
    void TearDown() override { std::filesystem::remove_all(root_); }

    void write(const std::string& path, const std::string& text) const {
        std::filesystem::create_directories((root_ + path).substr(0, (root_ + path).rfind('/')));
        std::ofstream(root_ + path) << text;
    }
    [[nodiscard]] double quota(const char* groups) const { return quota_cores(root_.c_str(), groups); }

    std::string root_;
};

TEST_F(Quota, of_version_2_is_the_tightest_on_the_way_up) {
    write("/a/cpu.max", "150000 100000\n");
    write("/a/b/cpu.max", "max 100000\n");
    EXPECT_DOUBLE_EQ(quota("0::/a/b\n"), 1.5);
    write("/a/b/cpu.max", "50000 100000\n");
    EXPECT_DOUBLE_EQ(quota("0::/a/b\n"), 0.5);
}

TEST_F(Quota, of_version_1_is_that_of_the_cpu_controller) {
    write("/cpu/x/cpu.cfs_quota_us", "300000\n");
    write("/cpu/x/cpu.cfs_period_us", "100000\n");
    EXPECT_DOUBLE_EQ(quota("3:memory:/y\n2:cpu,cpuacct:/x\n0::/\n"), 3.0);
    write("/cpu/x/cpu.cfs_quota_us", "-1\n");
    EXPECT_DOUBLE_EQ(quota("2:cpu,cpuacct:/x\n"), 0);
}

TEST_F(Quota, none_where_no_file_says_so) {
    EXPECT_DOUBLE_EQ(quota("0::/nowhere/deep\n"), 0);
    EXPECT_DOUBLE_EQ(quota("garbage\n::\n\n"), 0);
}

TEST_F(Quota, of_a_container_whose_path_is_not_visible_is_the_root_s) {
    write("/cpu.max", "200000 100000\n");
    EXPECT_DOUBLE_EQ(quota("0::/docker/1234\n"), 2.0);
}

TEST(Cpu, counts_are_sane) {
    EXPECT_GE(online_cores(), 1);
    EXPECT_GE(usable_cores(), 1);
    EXPECT_LE(usable_cores(), online_cores());
    EXPECT_GE(running_threads(), 1);
}

}  // namespace
}  // namespace syncyte
