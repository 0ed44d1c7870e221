// The kernels compiled for x86-64-v3, that is AVX2 with fused multiply-add.
#include "kernels/table.inl"

namespace klqp {

extern const KernelTable table_v3;
constinit const KernelTable table_v3 = make_table("v3");

}  // namespace klqp
