package federation

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func ownedObject(uid, version, service string) *metav1.ObjectMeta {
	return &metav1.ObjectMeta{Namespace: "shop", Name: "a", UID: types.UID(uid), ResourceVersion: version, Labels: map[string]string{"service": service}}
}

func someOwned() owned[*metav1.ObjectMeta] {
	return newOwned(func(o *metav1.ObjectMeta) string { return o.Labels["service"] })
}

// version is that of the object that is known of a Service.
func version(o *owned[*metav1.ObjectMeta], service string) string {
	for _, x := range o.of(types.NamespacedName{Namespace: "shop", Name: service}) {
		return x.ResourceVersion
	}
	return ""
}

func TestALaggingInformerBringsNothingOldBack_4_11(t *testing.T) {
	name := types.NamespacedName{Namespace: "shop", Name: "a"}
	for what, tt := range map[string]struct {
		do   func(o *owned[*metav1.ObjectMeta])
		want string
	}{
		"an older version": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "12", "s"))
			o.saw(ownedObject("u", "9", "s"))
			o.saw(ownedObject("u", "11", "s"))
		}, "12"},
		"deleted here": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "9", "s"))
			o.deleted(time.Now(), name, "u")
			o.saw(ownedObject("u", "9", "s"))
			o.saw(ownedObject("u", "10", "s"))
		}, ""},
		"deleted here and made anew": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "9", "s"))
			o.deleted(time.Now(), name, "u")
			o.saw(ownedObject("v", "12", "s"))
			o.saw(ownedObject("u", "9", "s"))
			o.vanished(ownedObject("u", "11", "s"), "11")
		}, "12"},
		"deleted by somebody": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "9", "s"))
			o.vanished(ownedObject("u", "11", "s"), "11")
		}, ""},
		"deleted by somebody, and missed": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "9", "s"))
			o.vanished(ownedObject("u", "8", "s"), "")
		}, ""},
		"not ours for a while": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "9", "s"))
			o.vanished(ownedObject("u", "10", "s"), "10")
			o.saw(ownedObject("u", "11", "s"))
		}, "11"},
		"its going is shown after its return": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "11", "s"))
			o.vanished(ownedObject("u", "10", "s"), "10")
		}, "11"},
		"versions that are no numbers": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "b", "s"))
			o.saw(ownedObject("u", "a", "s"))
		}, "a"},
		"of another Service by now": {func(o *owned[*metav1.ObjectMeta]) {
			o.saw(ownedObject("u", "9", "s"))
			if affected := o.saw(ownedObject("u", "10", "other")); len(affected) != 2 {
				t.Errorf("affected are %v", affected)
			}
		}, ""},
	} {
		o := someOwned()
		tt.do(&o)
		if got := version(&o, "s"); got != tt.want {
			t.Errorf("%s: version %q is known, want %q", what, got, tt.want)
		}
	}
}

func TestWhatIsSeenAgainChangesNothing(t *testing.T) {
	o := someOwned()
	if o.saw(ownedObject("u", "9", "s")) == nil {
		t.Error("a new object changes nothing")
	}
	if affected := o.saw(ownedObject("u", "9", "s")); affected != nil {
		t.Errorf("affected are %v", affected)
	}
}

func TestDeletionsAreNotRememberedForEver(t *testing.T) {
	o, now := someOwned(), time.Now()
	for i := range 100 {
		o.deleted(now.Add(time.Duration(i)*time.Minute), types.NamespacedName{Name: "x"}, types.UID(string(rune('a'+i))))
	}
	if len(o.gone) > 12 {
		t.Errorf("%d are remembered", len(o.gone))
	}
}
