// Package store keeps what this node knows of each cluster on its disk, so that
// an agent that starts while an API server cannot be reached goes on from the
// moment before (semantics 3.3): kill -9 loses nothing that Append has accepted,
// and after a machine crash a file is consistent or discarded. It is never a
// half-truth: what cannot be kept whole is removed.
//
// # Files
//
// A folder (0700, locked by one agent) has one file (0600) for each cluster,
// named NAME.store; NAME is a DNS label and hence no path. A file is: magic with
// the format's version; a header record with the cluster, the uid of its
// RemoteCluster and the boot in which it was written; the image, which is all
// facts at one time and ends with a record that says so; then what was appended:
// batches of changes with the time of last contact. Records are CBOR arrays
// behind a length and two CRC-32C: one of the length, one of the content. Each
// sum goes on from that of the record before, starting from a header with random
// bytes: a record that is lost, old, moved or from another file does not fit.
//
// # What a crash leaves, and what is made of it
//
// Rewrite writes a whole image to a temporary file, syncs it, renames it over the
// old one and syncs the folder: at any time there is one whole image, on disk.
//
// Append is one write, and no sync. The kernel has the bytes when the write
// returns: a process that is killed later loses none of them, one that is killed
// while writing leaves a cut-off record at the end. A batch counts only when its
// last record is whole. So, when a file that ends inside a record or batch is
// loaded:
//   - in the boot in which the end was written, only a killed process or a failed
//     write can be the cause. Nobody was told that the batch is kept: it is cut
//     off, and all before it is the truth.
//   - in another boot, the machine may have crashed, and what the disk has of the
//     unsynced bytes is the file system's choice. The file is discarded.
//   - inside the image it cannot be cut off by any crash: discarded.
//
// The boot is known from the header, or from a record that is put before the
// first append in each later boot: what was read in a new boot was on disk.
//
// Any other failure (a sum, a sequence, a length of zero as in a tail of zeroes, a
// fact that cannot be, bytes behind the end) discards the whole file, whatever
// the boot: what comes before it is not trusted either. A file without any
// failure is used even if a machine crash took whole batches from its end. It is
// then what was true at an earlier time, complete, and says so: its last contact
// is of that time too, and so is the age that people and staleAfter see.
//
// # Limits and failed writes
//
// A file that is longer than the limit is discarded at Load. An Append that would
// exceed it fails with ErrTooLarge and removes the file; so does one with a fact
// that Load would refuse. The cluster is then without a store, and every Append
// fails, until a Rewrite succeeds; NeedsRewrite says when to try.
//
// An Append that the disk refuses cuts the file back to the batch before, fails,
// and keeps the changes in memory: the next Append writes them first. The file
// meanwhile is an earlier truth. Past a bound they are given up, and only a
// Rewrite mends it.
//
// It may import pkg/model.
package store
