// The kernels compiled for every machine of the target architecture.
#include "kernels/table.inl"

namespace klqp {

extern const KernelTable table_base;
constinit const KernelTable table_base = make_table("base");

}  // namespace klqp
