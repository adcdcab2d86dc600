// workgroup_sum(value, lane): by subgroups where the kernel says SUBGROUPS, else by a tree.
#if SUBGROUPS
#import reduce_subgroup
#else
#import reduce
#endif
