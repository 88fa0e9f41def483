package dashboard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What a visitor may not see is not even in the View, whatever the templates leave out besides.
func TestViewHoldsWhatItsVisitorMaySee(t *testing.T) {
	s := newSite(t, func(s *Sources) { s.ShowPayloads = true })
	for _, trusted := range []bool{false, true} {
		v := s.d.view(s.d.collect.fresh(t.Context()), s.d.visitor(trusted))
		all := fmt.Sprintf("%+v %+v %+v", *v, *v.Process, *v.Active)
		for _, secret := range slices.Concat(secrets, []string{s.d.csrf.token}) {
			if got := strings.Contains(all, secret); got != trusted {
				t.Errorf("trusted %v: that the view holds %s is %v, want %v", trusted, secret, got, trusted)
			}
		}
		for _, reason := range v.Health.Reasons {
			if got := reason.Text(); got != "what happened" {
				t.Errorf("trusted %v: the reason in the view is %q, want its first line alone", trusted, got)
			}
		}
		if v.Process.CanAct != trusted {
			t.Errorf("trusted %v: the restart button is shown: %v, want %v", trusted, v.Process.CanAct, trusted)
		}
	}
}
