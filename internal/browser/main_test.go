package browser_test

import (
	"context"
	"flag"
	"os"
	"runtime"
	"strconv"
	"testing"

	"lablink/internal/agent/simhost"
	"lablink/internal/testkit"
)

// TestMain makes this test binary the simulated start-host as well: the programs
// that simhost.Install writes run it with that argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "start-host":
			os.Exit(simhost.StartHost(context.Background(), os.Args[2:], os.Stdin, os.Stdout, os.Stderr))
		case "chrome-remote-desktop":
			os.Exit(simhost.Script(os.Args[2:], os.Stdout, os.Stderr))
		}
	}
	flag.Parse()
	if !explicit("test.parallel") {
		// Stories mostly wait, for agents and pages: more of them than processors fit.
		if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
			panic(err)
		}
	}
	testkit.Main(m)
}

func explicit(name string) (yes bool) {
	flag.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// TestBrowser plays all stories in one Chromium, each of them with an allocator
// of its own, and each person in them with cookies of their own.
func TestBrowser(t *testing.T) {
	t.Parallel()
	c := startChromium(t)
	for _, story := range []struct {
		name string
		play func(*testing.T, *chromium)
	}{
		{"pages of participants are for everybody", participantPages},
		{"pages of a participant's VM are for everybody", seatPages},
		{"pages of the organiser are for everybody", organiserPages},
		{"without script", withoutScript},
		{"from the start page to a ready VM", fromStartToReady},
		{"the same seat wherever its owner comes from", sameSeat},
		{"the server restarts under an open page", serverRestarts},
		{"a browser that keeps no cookie", keepsNoCookie},
		{"another device", anotherDevice},
		{"a failed code and a fresh one", failedCode},
		{"a full house", fullHouse},
		{"a button pressed twice", pressedTwice},
		{"two people at one computer", sharedComputer},
		{"the organiser watches live", organiserWatches},
		{"the organiser registers, helps and removes", organiserActs},
		{"the organiser launches, mends and destroys", organiserLaunches},
		{"the organiser enters AWS credentials", organiserEntersCredentials},
		{"by keyboard alone", byKeyboard},
		{"the organiser reads logs", organiserReadsLogs},
		{"a long log", longLog},
		{"a log goes on", logGoesOn},
		{"a log without script", logWithoutScript},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			story.play(t, c)
		})
	}
}
