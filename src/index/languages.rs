//! Tests of what can be found in which language. Words and substrings are cut here by plain means,
//! not by the tokens under test; every one of them is looked for, in the index and by the direct
//! scan.

use crate::index::document::matches;
use crate::index::query::{Field, TextQuery};
use crate::index::{Index, Operation};
use crate::mail::text::SearchText;
use crate::types::id::{AccountId, Id};

const ACCOUNT: AccountId = AccountId(Id(1));

/// Subjects in scripts with spaces between words.
const SPACED: &[&str] = &[
    "Café-Öffnungszeiten: Žluťoučký kůň, naïve Façade, Łódź & Ærø, Straße",
    "İstanbul'da ılık bir günün sonu, çığ düştü",
    "Съешь ещё этих мягких французских булок, да выпей чаю; Йод и Ёлка",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία: ΟΔΥΣΣΕΑΣ, ο φίλος μας",
    "نص حكيم له سر قاطع وذو شأن عظيم، أحمد وإبراهيم مكتوبٌ على ثوبٍ أخضر",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה: שָׁלוֹם לְכֻלָּם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश हिन्दी",
    "Զեյթունի գեղեցիկ լեռները և ֆիզիկոս Մխիթարը",
    "ავტობუსი მიდის თბილისში ხვალ დილით",
    "কাজী নজরুল ইসলাম বাংলার বিদ্রোহী কবি",
];

/// Subjects in scripts that are searched by substring, some with Latin words and digits inside.
const DENSE: &[&str] = &[
    "关于二零二四年第三季度财务报告的会议通知，请查收",
    "會議記錄：臺灣大學圖書館VPN使用說明2024版",
    "東京タワーのiPhoneケース、第3回ｶﾞｲﾄﾞツアー㈱山田",
    "명절을 앞두고 대한민국의 배송이 지연되고 있습니다",
    "สวัสดีครับขอเชิญประชุมน้ำใจที่กรุงเทพมหานคร",
    "ຂໍເຊີນເຂົ້າຮ່ວມກອງປະຊຸມທີ່ວຽງຈັນ",
    "សូមអញ្ជើញចូលរួមប្រជុំនៅភ្នំពេញ",
    "မင်္ဂလာပါရန်ကုန်မြို့တွင်အစည်းအဝေး",
];

fn message(subject: &str) -> SearchText {
    SearchText { subject: subject.to_owned(), ..SearchText::default() }
}

/// Looks everywhere for each text of each message, and finds that message.
async fn assert_found(messages: Vec<SearchText>, field: Field, wanted: Vec<(usize, String)>) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::in_folder(folder.path()).unwrap();
    let put = |(place, text): (usize, &SearchText)| Operation::Put {
        account: ACCOUNT,
        email: Id(place as i64),
        text: Box::new(text.clone()),
    };
    index.apply(messages.iter().enumerate().map(put).collect()).await.unwrap();
    assert!(!wanted.is_empty());
    for (place, text) in wanted {
        let query = TextQuery::parse(field.clone(), &text);
        assert!(matches(&messages[place], &query), "scan: {text:?} in {:?}", messages[place].subject);
        let found = index.search(ACCOUNT, &query).await.unwrap().certain;
        assert!(found.contains(&Id(place as i64)), "index: {text:?} in {:?}", messages[place].subject);
        assert!(found.len() < messages.len(), "{text:?} finds everything");
    }
}

/// What stands between white space and punctuation.
fn words(subject: &str) -> impl Iterator<Item = &str> {
    subject.split(|c: char| c.is_whitespace() || ",;:&'-،".contains(c)).filter(|word| !word.is_empty())
}

fn substrings(text: &str, longest: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len())
        .flat_map(|start| (start + 1..=chars.len().min(start + longest)).map(move |end| (start, end)))
        .map(|(start, end)| chars[start..end].iter().collect())
        .collect()
}

#[tokio::test]
async fn words_and_their_beginnings_are_found_in_scripts_with_spaces() {
    let mut wanted = Vec::new();
    for (place, subject) in SPACED.iter().enumerate() {
        wanted.push((place, (*subject).to_owned()));
        for word in words(subject) {
            wanted.push((place, word.to_owned()));
            wanted.push((place, word.to_uppercase()));
            wanted.push((place, format!("\"{word}\"")));
            // Two letters and more; points and vowel signs above and below are none.
            let point = |c: char| matches!(c, '\u{591}'..='\u{5c7}' | '\u{64b}'..='\u{65f}');
            let letters = |text: &str| text.chars().filter(|c| !point(*c)).count();
            let beginnings = word.char_indices().map(|(end, _)| &word[..end]);
            let beginnings = beginnings.filter(|text| letters(text) >= 2);
            wanted.extend(beginnings.map(|text| (place, text.to_owned())));
        }
    }
    assert_found(SPACED.iter().map(|subject| message(subject)).collect(), Field::Text, wanted).await;
}

#[tokio::test]
async fn every_substring_is_found_in_scripts_without_spaces() {
    let mut wanted = Vec::new();
    for (place, subject) in DENSE.iter().enumerate() {
        wanted.push((place, (*subject).to_owned()));
        for piece in subject.split([' ', '，', '：', '、']) {
            // Of a Latin word or a number inside, the beginning: those have spaces elsewhere.
            let texts = substrings(piece, 6).into_iter().filter(|text| !text.is_ascii());
            // Half-width voicing marks are one character with what is before them.
            let whole = |text: &String| !text.ends_with(['ｶ', 'ﾄ']) && !text.starts_with('ﾞ');
            wanted.extend(texts.filter(whole).map(|text| (place, text)));
        }
    }
    for (place, text) in
        [(1, "VPN"), (1, "20"), (2, "iph"), (2, "3"), (2, "ガイド"), (2, "株"), (2, "ケース、第")]
    {
        wanted.push((place, text.to_owned()));
    }
    assert_found(DENSE.iter().map(|subject| message(subject)).collect(), Field::Subject, wanted).await;
}

#[tokio::test]
async fn accents_may_be_written_or_not() {
    let subjects = ["Café in Łódź", "Cafe in Lodz", "حَفْلَة", "шёлк", "Ελλάδα", "nothing"];
    let texts = [
        (0, "cafe"),
        (0, "CAFÉ"),
        (1, "café"),
        (0, "lodz"),
        (1, "łódź"),
        (0, "cafe\u{301}"),
        (2, "حفله"),
        (3, "шелк"),
        (4, "ελλαδα"),
        (4, "ΕΛΛΆΔΑ"),
    ];
    let wanted = texts.map(|(place, text)| (place, text.to_owned())).to_vec();
    assert_found(subjects.map(message).to_vec(), Field::Text, wanted).await;
}

#[tokio::test]
async fn addresses_file_names_and_the_whole_body_are_found_by_their_parts() {
    let filler = "lorem ipsum dolor sit amet 是一二三 ".repeat(14_000);
    assert!(filler.len() > 500_000);
    let first = SearchText {
        from: "\"Doe, Jane\" <jane.doe+lists@mail.example-corp.test>".into(),
        cc: "ops@xn--bcher-kva.test, postmaster@[192.0.2.1]".into(),
        body: format!("{filler} the needle stands here 针在这里"),
        attachment_names: vec!["Invoice-2024_Q3.final.pdf".into(), "写真アルバム.jpg".into()],
        ..SearchText::default()
    };
    let texts = [
        "jane.doe+lists@mail.example-corp.test",
        "jane.doe",
        "doe+lists",
        "lists@mail",
        "mail.example-corp.test",
        "example-corp.test",
        "example",
        "corp.test",
        "jane.doe+lists@mail.ex",
        "jane.doe+lists@m",
        "<jane.doe+lists@mail.example-corp.test>",
        "192.0.2.1",
        "ops@xn--bcher-kva.test",
        "needle stands",
        "\"the needle stands here\"",
        "needle 在这",
        "Invoice-2024_Q3.final.pdf",
        "invoice",
        "2024",
        "q3",
        "final.pdf",
        "pdf",
        "*.pdf",
        "アルバム",
        "真ア",
        "アルバム.jpg",
        "jane needle invoice",
    ];
    let messages = vec![first, message("other")];
    assert_found(messages, Field::Text, texts.map(|text| (0, text.to_owned())).to_vec()).await;
}
