// Package browser holds no code: its tests play the story of participants and
// organiser in a real Chromium, against a real allocator and real agents with a
// simulated Chrome Remote Desktop, and look at every page as its readers will.
//
// With LABLINK_SCREENSHOTS=DIR they leave a picture of each page there.
package browser
