#include "base/cpu.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace syncyte {

namespace {

std::string text_of(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::int64_t nanoseconds_now() noexcept { return Clock::now().time_since_epoch().count(); }

// A number that is looked up again when it is older than `lifetime`. Whoever finds it stale renews it, the
// others go on with the old one. Relaxed: the number stands for itself.
class CachedNumber {
  public:
    constexpr CachedNumber(std::int64_t lifetime_ns, int (*look)()) : lifetime_(lifetime_ns), look_(look) {}

    int get() noexcept {
        std::int64_t due = due_.load(std::memory_order_relaxed);
        const std::int64_t now = nanoseconds_now();
        if (now >= due && due_.compare_exchange_strong(due, now + lifetime_, std::memory_order_relaxed)) {
            value_.store(look_(), std::memory_order_relaxed);
        }
        const int value = value_.load(std::memory_order_relaxed);
        return value != 0 ? value : look_();
    }

  private:
    const std::int64_t lifetime_;
    int (*const look_)();
    std::atomic<std::int64_t> due_{INT64_MIN};
    std::atomic<int> value_{0};
};

double quota_of_v2(const std::string& folder) {
    const std::string text = text_of(folder + "/cpu.max");
    double quota = 0;
    double period = 0;
    if (std::sscanf(text.c_str(), "%lf %lf", &quota, &period) != 2 || period <= 0) return 0;
    return quota / period;
}

double quota_of_v1(const std::string& folder) {
    const double quota = std::atof(text_of(folder + "/cpu.cfs_quota_us").c_str());
    const double period = std::atof(text_of(folder + "/cpu.cfs_period_us").c_str());
    return quota > 0 && period > 0 ? quota / period : 0;
}

// The tightest quota on the way from `group` up to the root. Inside a container the group's own path may
// not be visible; the root then is the container's.
double tightest_quota(const std::string& root, std::string group, double (*quota_of)(const std::string&)) {
    double tightest = 0;
    while (true) {
        const double quota = quota_of(root + group);
        if (quota > 0) tightest = tightest > 0 ? std::min(tightest, quota) : quota;
        const std::size_t slash = group.rfind('/');
        if (group.empty() || slash == std::string::npos) return tightest;
        group.resize(slash);
    }
}

bool lists(std::string_view names, std::string_view wanted) {
    while (!names.empty()) {
        const std::size_t comma = names.find(',');
        if (names.substr(0, comma) == wanted) return true;
        names = comma == std::string_view::npos ? std::string_view() : names.substr(comma + 1);
    }
    return false;
}

int look_up_online_cores() {
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 ? static_cast<int>(cores) : 1;
}

int look_up_usable_cores() {
    int cores = online_cores();
    // The mask of a machine with very many cores does not fit the fixed cpu_set_t.
    constexpr int kMost = 8192;
    if (cpu_set_t* mask = CPU_ALLOC(kMost); mask != nullptr) {
        const std::size_t size = CPU_ALLOC_SIZE(kMost);
        if (sched_getaffinity(0, size, mask) == 0) cores = CPU_COUNT_S(size, mask);
        CPU_FREE(mask);
    }
    const double quota = quota_cores("/sys/fs/cgroup", text_of("/proc/self/cgroup").c_str());
    if (quota > 0) cores = std::min(cores, static_cast<int>(std::ceil(quota)));
    return std::max(cores, 1);
}

int look_up_running_threads() {
    // Kept open: one pread a look. Never closed, so that no exit order matters.
    static const int file = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    char text[128];
    const ssize_t length = file < 0 ? -1 : pread(file, text, sizeof text - 1, 0);
    if (length <= 0) return 1;
    text[length] = '\0';
    int running = 1;
    // "0.20 0.18 0.12 3/122 17299": the fourth field is running/all.
    if (std::sscanf(text, "%*f %*f %*f %d/", &running) != 1) return 1;
    return std::max(running, 1);
}

constinit CachedNumber cached_online_cores(1'000'000'000, look_up_online_cores);
constinit CachedNumber cached_usable_cores(1'000'000'000, look_up_usable_cores);
constinit CachedNumber cached_running_threads(1'000'000, look_up_running_threads);

}  // namespace

double quota_cores(const char* root, const char* groups) {
    double tightest = 0;
    std::istringstream lines(groups);
    std::string line;
    while (std::getline(lines, line)) {
        // "0::/path" is version 2, "4:cpu,cpuacct:/path" version 1.
        const std::size_t first = line.find(':');
        const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        std::string group = line.substr(second + 1);
        if (group == "/") group.clear();
        double quota = 0;
        if (controllers.empty()) {
            quota = tightest_quota(root, group, quota_of_v2);
        } else if (lists(controllers, "cpu")) {
            quota = tightest_quota(std::string(root) + "/cpu", group, quota_of_v1);
        }
        if (quota > 0) tightest = tightest > 0 ? std::min(tightest, quota) : quota;
    }
    return tightest;
}

int online_cores() noexcept { return cached_online_cores.get(); }

int usable_cores() noexcept { return cached_usable_cores.get(); }

int running_threads_now() noexcept { return look_up_running_threads(); }

int running_threads() noexcept { return cached_running_threads.get(); }

}  // namespace syncyte
