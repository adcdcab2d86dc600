// workgroup_max(value, lane), and what `workgroup_sum` has.
#if SUBGROUPS
#import reduce_max_subgroup
#else
#import reduce_max
#endif
