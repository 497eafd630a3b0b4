// Package conflist is the installer of the CNI plugin: it keeps a list of plugins
// of our own in CNI's folder, which is Azure's with our plugin at its end, and
// the plugin's program in CNI's folder of programs. What our list must be is
// computed in files named derive*, which are pure; the rest watches and writes.
//
// Ours is a file of its own that sorts before Azure's, of which a runtime takes
// the first. To edit Azure's in place would be simpler, and would lose: Azure's
// installers write their file anew, whenever they are updated and now and then
// without a reason that can be seen, and every time pods would start without our
// plugin until we have edited it again. Azure's writes cannot undo a file of its
// own. The price is that ours could outlive what it is made of, and that a node
// whose network is not complete, which Azure says by the absence of its file,
// would look ready. So ours is made anew at every change of Azure's, and removed
// when Azure's goes.
//
// Of this repository it may import pkg/cni.
package conflist
