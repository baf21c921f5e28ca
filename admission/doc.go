// Package admission decides who may begin something new with a service: by prefixes
// that may and may not, by how often one source begins, and by how much it has
// begun. It is a pure state machine, asked by the node that owns the flow's bucket,
// and by no other; so its counts are the cluster's where a source belongs to one
// node.
//
// It is asked about packets whose source may be forged. What it remembers is
// bounded (MaxSources); when that is full, what has been seen least is forgotten first,
// and whoever was forgotten begins anew, with nothing counted against it. A flood of
// forged sources can so make a limit lax, and cannot make it refuse others. Whoever
// forges one source can use up what that source may begin; flows that have begun are
// not touched, and prefixes that are exempt are not limited.
package admission
