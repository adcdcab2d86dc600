// workgroup_argmin(value, index, lane): by subgroups where the kernel says SUBGROUPS, else by a tree.
#if SUBGROUPS
#import argmin_subgroup
#else
#import argmin
#endif
