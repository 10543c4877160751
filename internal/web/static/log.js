// The page of a log: it follows the end, loads older lines when they are scrolled to, and stays small.
(function () {
  'use strict'

  var box = document.querySelector('.logbox')
  if (!box) return
  var log = document.getElementById('log')
  var follow = document.getElementById('follow')
  var wrap = document.getElementById('wrap')
  var more = box.querySelector('.more')
  var state = box.querySelector('.state')
  var empty = box.querySelector('.empty')

  var most = 3000 // lines in the page: what is beyond leaves it at the other end
  var waiting = 0 // lines below that the reader has not seen

  // Times of this computer, in the place of UTC.
  var zone = (Intl.DateTimeFormat().resolvedOptions().timeZone || '').replace(/_/g, ' ')
  document.getElementById('offset').value = String(new Date().getTimezoneOffset())
  if (zone) document.querySelectorAll('.zone').forEach(function (e) { e.textContent = zone })

  function two(n, width) { return String(n).padStart(width || 2, '0') }

  function localise(part) {
    part.querySelectorAll('time').forEach(function (e) {
      var t = new Date(e.getAttribute('datetime'))
      e.textContent = two(t.getHours()) + ':' + two(t.getMinutes()) + ':' + two(t.getSeconds()) + '.' + two(t.getMilliseconds(), 3)
      e.title = t.toLocaleString()
    })
  }

  var days = new Intl.DateTimeFormat('en-GB', { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' })

  // The moment at which a line's day begins, as a number; nothing for what is no line.
  function dayOf(line) {
    var time = line && line.querySelector('time')
    return time ? new Date(time.getAttribute('datetime')).setHours(0, 0, 0, 0) : null
  }

  // A line says its day where that begins, by this computer's clock.
  function markDays(line) {
    var before = line && dayOf(line.previousElementSibling)
    for (; line; line = line.nextElementSibling) {
      var day = dayOf(line)
      if (day === null) continue
      var shown = line.querySelector('.day')
      if (day === before) {
        if (shown) shown.remove()
      } else {
        if (!shown) {
          shown = document.createElement('span')
          shown.className = 'day'
          line.prepend(shown)
        }
        shown.textContent = days.format(day).replace(',', '')
      }
      before = day
    }
  }

  function linesIn(html) {
    var holder = document.createElement('template')
    holder.innerHTML = html
    localise(holder.content)
    return holder.content
  }

  localise(log)
  markDays(log.firstElementChild)

  // Wrapping is remembered.
  function setWrap(on) {
    wrap.checked = on
    log.classList.toggle('wrapped', on)
  }
  setWrap(localStorage.getItem('log.wrap') !== 'no')
  wrap.addEventListener('change', function () {
    localStorage.setItem('log.wrap', wrap.checked ? 'yes' : 'no')
    setWrap(wrap.checked)
    if (follow.checked) toEnd()
  })

  function atEnd() { return log.scrollHeight - log.clientHeight - log.scrollTop < 30 }
  function toEnd() { log.scrollTop = log.scrollHeight }

  function showWaiting() {
    more.hidden = waiting === 0
    more.textContent = waiting + (waiting === 1 ? ' new line' : ' new lines')
  }

  function setFollow(on) {
    follow.checked = on
    if (on) {
      waiting = 0
      showWaiting()
      toEnd()
    }
  }
  follow.addEventListener('change', function () { setFollow(follow.checked) })
  more.addEventListener('click', function () {
    if (waiting > most) location.href = location.pathname + filterOnly()
    else setFollow(true)
  })

  // The address with the filter, but without a place in the log.
  function filterOnly() {
    var query = new URLSearchParams(location.search)
    ;['after', 'before', 'line', 'at', 'offset'].forEach(function (name) { query.delete(name) })
    return '?' + query
  }

  // Who scrolls up reads; who comes back to the end follows again. What a program scrolls is not the reader's doing.
  var touched = 0
  ;['wheel', 'touchmove', 'keydown', 'pointerdown'].forEach(function (kind) {
    log.addEventListener(kind, function () { touched = Date.now() }, { passive: true })
  })
  log.addEventListener('scroll', function () {
    if (box.dataset.stream && Date.now() - touched < 1000) {
      if (follow.checked && !atEnd()) setFollow(false)
      else if (!follow.checked && waiting <= most && atEnd()) setFollow(true)
    }
    if (log.scrollTop < 200) loadOlder()
  }, { passive: true })

  // Older lines, when their place is reached.
  var loading = false
  function loadOlder() {
    if (loading || !box.dataset.older || log.children.length >= most * 2) return
    loading = true
    state.textContent = 'Loading older lines …'
    fetch(box.dataset.older, { credentials: 'same-origin' }).then(function (answer) {
      if (!answer.ok) throw new Error(String(answer.status))
      return answer.text()
    }).then(function (html) {
      var page = new DOMParser().parseFromString(html, 'text/html')
      var lines = linesIn(page.getElementById('log').innerHTML)
      var from = log.scrollHeight - log.scrollTop
      log.prepend(lines)
      markDays(log.firstElementChild)
      log.scrollTop = log.scrollHeight - from
      var older = page.querySelector('.logbox').dataset.older
      var link = box.querySelector('.older')
      if (older && log.children.length < most * 2) {
        box.dataset.older = older
      } else {
        delete box.dataset.older
      }
      if (link) {
        if (older) link.href = older
        else link.remove()
      }
      state.textContent = ''
      loading = false
    }).catch(function () {
      state.textContent = 'Older lines could not be loaded. '
      setTimeout(function () { loading = false }, 3000)
    })
  }

  // New lines, as they come. The browser connects again by itself, and says where it was.
  if (box.dataset.stream) {
    setFollow(!log.querySelector('.marked') && !new URLSearchParams(location.search).get('at'))
    var source = new EventSource(box.dataset.stream)
    source.addEventListener('lines', function (event) {
      var lines = linesIn(event.data)
      var count = lines.querySelectorAll('li').length
      if (empty) {
        empty.remove()
        empty = null
      }
      if (!follow.checked) {
        waiting += count
        showWaiting()
        if (waiting > most) return // they are only counted; the button leads to them
      }
      var added = lines.firstElementChild
      log.append(lines)
      markDays(added)
      while (follow.checked && log.children.length > most) log.firstElementChild.remove()
      if (follow.checked) {
        var first = log.querySelector('li[id]')
        var older = new URLSearchParams(filterOnly())
        older.set('before', first.id.slice(1))
        box.dataset.older = location.pathname + '?' + older
      }
      if (follow.checked) toEnd()
    })
    source.onopen = function () { state.textContent = 'Live' }
    source.onerror = function () { state.textContent = 'Connecting again …' }
    window.addEventListener('pagehide', function () { source.close() })
  }

  // A link to a line is copied as well as followed.
  log.addEventListener('click', function (event) {
    var link = event.target.closest('a.at')
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return
    if (!navigator.clipboard || !window.isSecureContext) return
    event.preventDefault()
    navigator.clipboard.writeText(link.href).then(function () {
      state.textContent = 'The link to the line is copied.'
      document.getElementById('said').textContent = state.textContent
    }, function () { location.href = link.href })
    log.querySelectorAll('.marked').forEach(function (e) { e.classList.remove('marked') })
    link.closest('li').classList.add('marked')
  })

  var marked = log.querySelector('.marked')
  if (marked) marked.scrollIntoView({ block: 'center' })
  else if (!box.dataset.stream && new URLSearchParams(location.search).has('before')) toEnd()
})()
