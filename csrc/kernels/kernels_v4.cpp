// The kernels compiled for x86-64-v4, that is AVX-512.
#include "kernels/table.inl"

namespace klqp {

extern const KernelTable table_v4;
constinit const KernelTable table_v4 = make_table("v4");

}  // namespace klqp
