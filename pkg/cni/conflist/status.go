package conflist

import "time"

// Status is how the installation is doing. It is immutable.
type Status struct {
	// Off: nothing is to be installed.
	Off bool
	// Installed: our list is in CNI's folder, since Since; if not, it has not been
	// since then. A list that is there may be behind Azure's: Error says so.
	Installed bool
	Since     time.Time
	// Source is the path of what the list was made from.
	Source string
	// Error is why it is not as it should be, since ErrorSince, and what to do;
	// empty: it is.
	Error      string
	ErrorSince time.Time
}

// Status is how it is going. It may be called from any goroutine.
func (i *Installer) Status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.status
}

// Changed is closed when Status is other than it was at the time of the call,
// but for a while yet maybe. It may be called from any goroutine.
func (i *Installer) Changed() <-chan struct{} {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.changed
}

// publish notes what a look has found, and logs what is new.
func (i *Installer) publish(installed bool, source string, err error) {
	now := time.Now()
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.status
	next := Status{Off: i.cfg.Off, Installed: installed, Since: old.Since, Source: source}
	if installed != old.Installed || old.Since.IsZero() {
		next.Since = now
	}
	if err != nil {
		next.Error, next.ErrorSince = err.Error(), old.ErrorSince
		if old.Error == "" {
			next.ErrorSince = now
		}
	}
	if next == old {
		return
	}
	i.status = next
	close(i.changed)
	i.changed = make(chan struct{})
	i.say(old, next)
}

func (i *Installer) say(old, next Status) {
	log := i.log.WithField("list", i.list)
	switch {
	case next.Error != "" && next.Error != old.Error:
		log.WithField("installed", next.Installed).Warn("the CNI plugin's list: " + next.Error)
	case next.Error == "" && old.Error != "" && next.Installed:
		log.WithField("source", next.Source).Info("the CNI plugin's list is in place")
	case next.Installed && (!old.Installed || next.Source != old.Source):
		log.WithField("source", next.Source).Info("the CNI plugin's list is in place")
	case !next.Installed && old.Installed:
		log.Info("the CNI plugin's list is removed")
	}
}
