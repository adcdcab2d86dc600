// What the attention variants for one subgroup share: WG invocations, the whole workgroup, each with
// RUNS rows of its own ("rows" are queries or keys), whose vectors are variables of its own: registers
// where the head is short, beyond that whatever memory the driver spills to. The other side passes by
// WG tokens at a time: an invocation loads one token's vec4s, and broadcasts hand them round, from
// lane to lane of the subgroup. No workgroup memory, no barriers, and a row's maximum and sum never
// leave its invocation.
#import attention_io
