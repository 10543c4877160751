// What the pages need beyond htmx: buttons that copy, and care for what the reader is doing.
(function () {
  'use strict'

  document.documentElement.classList.add('js')

  // A page that answered a form becomes one that can be asked for: Reload and Back would send the form again.
  var forms = { '/api/request_vm': '/', '/api/launch': '/admin/create', '/destroy': '/admin/instances/delete' }
  history.replaceState(history.state, '', forms[location.pathname])

  document.addEventListener('click', function (event) {
    var button = event.target.closest('[data-copy]')
    if (!button) return
    copy(button.dataset.copy).then(function () { say(button, 'Copied') }, function () { say(button, 'Please select and copy it') })
  })

  function say(button, words) {
    if (!button.dataset.words) {
      button.dataset.words = button.textContent
      button.dataset.label = button.getAttribute('aria-label') || button.textContent
    }
    button.textContent = words
    button.setAttribute('aria-label', words)
    document.getElementById('said').textContent = words
    clearTimeout(button.timer)
    button.timer = setTimeout(function () {
      button.textContent = button.dataset.words
      button.setAttribute('aria-label', button.dataset.label)
      document.getElementById('said').textContent = ''
    }, 2500)
  }

  // Browsers offer the clipboard only over https, and may refuse it; the old way works everywhere.
  function copy(text) {
    if (!navigator.clipboard || !window.isSecureContext) return copyOldWay(text)
    return navigator.clipboard.writeText(text).catch(function () { return copyOldWay(text) })
  }

  function copyOldWay(text) {
    var before = document.activeElement
    var area = document.createElement('textarea')
    area.value = text
    area.className = 'hidden'
    document.body.appendChild(area)
    area.select()
    var ok = document.execCommand('copy')
    area.remove()
    if (before) before.focus()
    return ok ? Promise.resolve() : Promise.reject(new Error('copy'))
  }

  // A fragment that says what the page says already stays out: whoever types, reads or selects there keeps their place.
  function versionIn(element) {
    var part = element && element.querySelector(':scope > [data-version]')
    return part ? part.dataset.version : null
  }

  function parsed(html) { return new DOMParser().parseFromString(html, 'text/html') }

  document.addEventListener('htmx:sseBeforeMessage', function (event) {
    var shown = versionIn(event.target)
    if (shown !== null && shown === versionIn(parsed(event.detail.data).body)) event.preventDefault()
  })

  document.addEventListener('htmx:beforeSwap', function (event) {
    var target = event.detail.target
    var shown = versionIn(target)
    if (shown === null || event.detail.isError) return
    var selection = window.getSelection()
    var selecting = event.detail.elt === target && !selection.isCollapsed && target.contains(selection.anchorNode)
    var same = shown === versionIn(parsed(event.detail.serverResponse).getElementById(target.id))
    if (selecting || same) event.detail.shouldSwap = false
    else places.set(target, placeIn(target))
  })

  // What the reader has opened, ticked or scrolled to stays so when a fragment is replaced. Who reads the end of something that grows follows it.
  var places = new WeakMap()

  function idsOf(target, selector) {
    return Array.from(target.querySelectorAll(selector), function (e) { return e.id })
  }

  function scrollersIn(target) { return [target].concat(Array.from(target.querySelectorAll('.scroll'))) }

  function placeIn(target) {
    return {
      opened: idsOf(target, 'details[open][id]'),
      ticked: idsOf(target, 'input:checked[id]'),
      scrolled: scrollersIn(target).map(function (e) {
        return { left: e.scrollLeft, top: e.scrollTop, end: e.scrollTop > 0 && e.scrollHeight - e.clientHeight - e.scrollTop < 4 }
      })
    }
  }

  document.addEventListener('htmx:afterSwap', function (event) {
    var target = event.detail.target
    var place = places.get(target)
    if (!place) return
    places.delete(target)
    place.opened.forEach(function (id) { var e = document.getElementById(id); if (e) e.open = true })
    place.ticked.forEach(function (id) { var e = document.getElementById(id); if (e) e.checked = true })
    scrollersIn(target).forEach(function (e, i) {
      var was = place.scrolled[i]
      if (!was) return
      e.scrollLeft = was.left
      e.scrollTop = was.end ? e.scrollHeight : was.top
    })
    announce(target)
  })

  // Screen readers hear of what a fragment says in one line, when that has changed.
  var first = document.querySelector('[data-said]')
  var heard = first && first.dataset.said

  function announce(target) {
    var part = target.querySelector(':scope > [data-said]')
    if (!part || part.dataset.said === heard) return
    heard = part.dataset.said
    document.getElementById('said').textContent = heard
  }

  // Nobody reads what is folded; what has just been unfolded is read from its end, where the newest is.
  document.addEventListener('htmx:beforeRequest', function (event) {
    if (event.detail.elt.closest('details:not([open])')) event.preventDefault()
  })

  document.addEventListener('toggle', function (event) {
    var output = event.target.open && event.target.querySelector('#output')
    if (output) output.scrollTop = output.scrollHeight
  }, true)
})()
